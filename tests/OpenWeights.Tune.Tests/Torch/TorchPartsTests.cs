using NUnit.Framework;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Tests.Torch;

/// <summary>What a libtorch is made of, read from what libtorch 2.10 of the package and Debian's 1.13 say of themselves.</summary>
public sealed class TorchPartsTests
{
    private static readonly string[] s_package =
    [
        "PyTorch built with:", "- GCC 9.4", "- C++ Version: 201703",
        "- Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64 architecture applications",
        "- Intel(R) MKL-DNN v3.7.1 (Git Hash 8d263e693366ef8db40acc569cc7d8edf644556d)", "- OpenMP 201511 (a.k.a. OpenMP 4.5)", "- LAPACK is enabled (usually provided by MKL)",
        "- CPU capability usage: AVX512", "- Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release, LAPACK_INFO=mkl, PERF_WITH_AVX=1, TORCH_VERSION=2.10.0, USE_CUDA=0, USE_MKL=ON,",
    ];

    private static readonly string[] s_debian =
    [
        "PyTorch built with:", "- GCC 12.2", "- C++ Version: 201402", "- Intel(R) MKL-DNN v2.6.3 (Git Hash N/A)", "- OpenMP 201511 (a.k.a. OpenMP 4.5)",
        "- LAPACK is enabled (usually provided by MKL)", "- CPU capability usage: AVX2", "- Build settings: BLAS_INFO=generic, LAPACK_INFO=generic, TORCH_VERSION=1.13.0, USE_MKLDNN=ON,", "MKL not found",
    ];

    [Test]
    public void The_package_has_mkl_inside_and_its_own_openmp()
    {
        var parts = TorchParts.Read(s_package, ["/app/libLibTorchSharp.so", "/app/libgomp-98b21ff3.so.1", "/app/libtorch_cpu.so"]);
        Assert.That(parts, Is.EqualTo(new TorchParts("MKL 2024.2, inside libtorch", "3.7.1", "OpenMP 4.5 (/app/libgomp-98b21ff3.so.1)", "AVX512")));
    }

    [Test]
    public void A_distributions_libtorch_multiplies_with_the_blas_that_is_loaded()
    {
        var parts = TorchParts.Read(s_debian, ["/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0", "/usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblasp-r0.3.21.so", "/usr/lib/x86_64-linux-gnu/libblas.so.3"]);
        Assert.That(parts, Is.EqualTo(new TorchParts("/usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblasp-r0.3.21.so", "2.6.3", "OpenMP 4.5 (/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0)", "AVX2")));
        Assert.That(TorchParts.Read(s_debian, ["/usr/lib/libblas.so.3.11.0"]).Blas, Does.Contain("libblas.so.3.11.0").And.Contain("libopenblas0-openmp"));
    }

    [Test]
    public void What_is_not_told_is_not_made_up()
    {
        Assert.That(TorchParts.Read([], []), Is.EqualTo(new TorchParts(null, null, null, null)));
    }

    [Test]
    public void The_torch_of_this_process_tells_all_of_it()
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("libtorch's description is asked for on Linux");
        }

        var parts = TorchParts.Current();
        Assert.That(parts.OpenMp, Does.Contain("OpenMP").And.Contain(".so"));
        Assert.That(parts.Capability, Is.Not.Null.And.Not.Empty);
        Assert.That(TorchSupplier.Current.Library, Does.Contain("libtorch_cpu"));
        Assert.That(LibTorchVersion.ReadDescription(TorchSupplier.Current.Description)?.ToString(2), Is.EqualTo(Version.Parse(TorchSupplier.Current.Version).ToString(2)));
        Assert.That(TorchSupplier.Libraries(), Does.Contain(TorchSupplier.Current.Library));
    }
}
