using System.Reflection;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using OpenWeights.Tune.Benchmarks;
using OpenWeights.Tune.Benchmarks.Parts;

if (args is ["llama-cpp", .. var rest])
{
    return BesideLlamaCpp.Run(rest);
}

if (args is ["llama-cpp-serve", .. var served])
{
    return BesideLlamaCpp.Serve(served);
}

if (args is ["llama-cpp-medians", var measured])
{
    return BesideLlamaCpp.Medians(measured);
}

// In this process: torch's native part and its environment are set up here, and a process of BenchmarkDotNet's making would lack them.
var config = DefaultConfig.Instance
    .AddJob(Job.ShortRun.WithIterationTime(Perfolizer.Horology.TimeInterval.FromMilliseconds(100)).WithToolchain(InProcessEmitToolchain.Instance))
    .AddColumn(new RateColumn(), new MemoryColumn())
    .WithArtifactsPath(Path.Combine(Environment.CurrentDirectory, "artifacts", "benchmarks"))
    .WithOptions(ConfigOptions.JoinSummary);
_ = BenchmarkSwitcher.FromAssembly(Assembly.GetExecutingAssembly()).Run(args.Length == 0 ? ["--filter", "*"] : args, config);
return 0;
