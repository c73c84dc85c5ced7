namespace OpenWeights.Tune.Adapters;

/// <summary>
/// The filters of coiflets (Daubechies, Orthonormal bases of compactly supported wavelets II, 1993), with sum 1: the low-pass filter of the inverse transform
/// has as many vanishing moments as the wavelet, so that there is one of each order without a choice of roots.
/// </summary>
internal static class Coiflets
{
    private static readonly double[][] s_filters =
    [
        [
            -0.05142972847076846, 0.23892972847076846, 0.6028594569415369, 0.27214054305846305, -0.05142972847076846, -0.011070271529231542,
        ],
        [
            0.011587596738716868, -0.029320137983468564, -0.04763959031100813, 0.27302104653476664, 0.5746823938568638, 0.29486719369561915,
            -0.05408560709171143, -0.04202648046077161, 0.016744410163279507, 0.003967883612962012, -0.0012892033561406595, -0.0005095053991076442,
        ],
        [
            -0.0026824186709220685, 0.005503126707831385, 0.016583560479170346, -0.0465077644787269, -0.043220763560211914, 0.28650333527364723,
            0.5612852568703300, 0.30298357177282415, -0.05077014075488886, -0.05819625076158553, 0.024434094321166957, 0.011229240962037866,
            -0.006369601011048823, -0.0018204589155662423, 0.0007902051009575940, 0.00032966517379318303, -0.00005019277455327665, -0.000024465734255308132,
        ],
    ];

    /// <summary>The low-pass filter of the inverse transform, whose sum is the square root of 2.</summary>
    /// <param name="order">The order, 1 to 3: what PEFT 0.21 has for 4 and 5 is no wavelet.</param>
    internal static double[] LowPass(int order) => Array.ConvertAll(s_filters[order - 1], static c => c * Math.Sqrt(2));
}
