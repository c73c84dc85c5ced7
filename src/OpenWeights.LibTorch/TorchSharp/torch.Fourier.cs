using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public enum FFTNormType
{
    Backward = 0,
    Forward = 1,
    Ortho = 2,
}

public static partial class torch
{
    public static class fft
    {
        public static Tensor ifft2(Tensor input, long[]? s = null, long[]? dim = null, FFTNormType norm = FFTNormType.Backward) =>
            Op.Tensor("aten::fft_ifft2", input, s, dim ?? [-2, -1], norm switch
            {
                FFTNormType.Forward => "forward",
                FFTNormType.Ortho => "ortho",
                _ => "backward",
            });
    }
}
