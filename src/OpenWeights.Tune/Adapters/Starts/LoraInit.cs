namespace OpenWeights.Tune.Adapters;

/// <summary>Initialization of a LoRA update (PEFT's init_lora_weights).</summary>
internal enum LoraInit
{
    /// <summary>true: A uniform in ±1 / sqrt(in), B zero; the initial update is zero.</summary>
    Kaiming,

    /// <summary>gaussian: A normal with standard deviation 1 / rank, B zero.</summary>
    Gaussian,

    /// <summary>
    /// pissa: the weight's largest singular values and vectors (Meng et al., 2024), subtracted from the weight; the initial update is zero.
    /// With <see cref="LoraConfig.PissaIterations"/>, pissa_niter_n: the same by randomized subspace iteration.
    /// </summary>
    Pissa,

    /// <summary>olora: the first columns of Q and rows of R of the weight's QR decomposition (Büyükakyüz, 2024), subtracted from the weight.</summary>
    Olora,

    /// <summary>orthogonal: random A and B with B A = 0, from the even and odd rows of an orthogonal matrix.</summary>
    Orthogonal,

    /// <summary>mica: B is the left singular vectors of the weight's smallest singular values and is not trained; A is zero.</summary>
    Mica,

    /// <summary>eva: A is the principal components of the layer's inputs on training data, which also share out the ranks; B is zero (Paischer et al., 2024).</summary>
    Eva,

    /// <summary>
    /// corda: singular values and vectors of the weight times the covariance of the layer's inputs on training data (Yang et al., 2024), subtracted
    /// from the weight.
    /// </summary>
    Corda,

    /// <summary>loftq: the weight becomes a quantized one, and B A the best approximation of what it lost (Li et al., 2023).</summary>
    Loftq,

    /// <summary>lora_ga: singular vectors of the weight's gradient on training data (Wang et al., 2024), subtracted from the weight.</summary>
    LoraGa,
}
