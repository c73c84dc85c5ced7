using System.CommandLine;
using System.Runtime.InteropServices;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt doctor.</summary>
internal static class DoctorCommand
{
    private static readonly Option<bool> s_json = CommonOptions.Json();

    // With bfloat16 instructions products are at least twice as fast as in float32; without them they are no faster.
    private const double FasterByInstructions = 1.3;

    private static readonly Option<string?> s_proof = new("--proof")
    {
        Description = "Only load torch, verify a matrix product, and write the list of loaded libraries to this file; for scripts.",
        Hidden = true,
    };

    internal static Command Create()
    {
        var command = new Command("doctor", "Shows which torch is used, its speed, and how to make it faster; with --verbose also torch's own description.") { s_proof, s_json };
        command.SetAction(static arguments =>
        {
            if (!arguments.GetValue(s_json))
            {
                return Run(arguments);
            }

            JsonLines.Write(PrintedText.Table(PrintedText.Of(() => Run(arguments))));
            return ExitCode.Success;
        });
        return command;
    }

    // For scripts/owt: checks that torch loads and computes, and lists the loaded libraries, so that the script detects changes to them.
    private static void Prove(string file)
    {
        TorchSupplier.Require();
        TorchSupplier.Prove(ScalarType.BFloat16);
        File.WriteAllLines(file, TorchSupplier.Libraries());
        Console.Out.WriteLine($"{TorchSupplier.Current.Name}, libtorch {TorchSupplier.Current.Version}");
    }

    private static int Run(ParseResult arguments)
    {
        Devices.UseAllCores();
        if (arguments.GetValue(s_proof) is { } file)
        {
            Prove(file);
            return ExitCode.Success;
        }

        var supplier = TorchSupplier.Current;
        var parts = TorchParts.Current();
        Line("torch", $"{supplier.Name}, libtorch {supplier.Version}{(supplier.Library is { } library ? $" ({library})" : "")}");
        Line("because", Environment.GetEnvironmentVariable("OWT_CHOSEN") is { Length: > 0 } reason ? reason : "the program was built with it (-p:TorchRuntime)");
        Line(".NET", $"{RuntimeInformation.FrameworkDescription} on {RuntimeInformation.OSDescription}, {RuntimeInformation.ProcessArchitecture}");
        Line("processor", $"{Processor.Name}: {(Processor.Instructions.Count == 0 ? "no vector instructions that are known here" : string.Join(", ", Processor.Instructions))}");
        Line("cores", $"{Environment.ProcessorCount}, of which torch uses {get_num_threads()}{(parts.OpenMp is null ? "" : $", by {parts.OpenMp}")}");
        Line("memory", $"{Amount.Bytes(MachineMemory.Total)}{(MachineMemory.Free is { } free ? $", {Amount.Bytes(free)} of it free" : "")}");
        Line("", CgroupMemory.Current is { } group
            ? $"the control group of this process is limited to {Amount.Bytes(group.Limit)}, {Amount.Bytes(group.Free)} of it free"
            : "no control group limits it");
        Line("BLAS", parts.Blas ?? "unknown");
        Line("oneDNN", parts.OneDnn ?? (supplier.Description.Count == 0 ? "unknown" : "none"));
        if (parts.Capability is not null)
        {
            Line("kernels", $"libtorch's own use {parts.Capability}");
        }

        var gpus = cuda.is_available() ? cuda.device_count() : 0;
        Line("GPUs", $"{gpus}");
        for (var i = 0; i < gpus; i++)
        {
            Line("", Gpus.Describe(i));
        }

        foreach (var device in Enumerable.Range(0, gpus).Select(static i => new Device(DeviceType.CUDA, i)).Prepend(CPU))
        {
            TellRates(device);
        }

        foreach (var note in supplier.Notes)
        {
            Line("note", note);
        }

        if (get_num_threads() < Environment.ProcessorCount)
        {
            Line("advice", $"OMP_NUM_THREADS holds torch to {get_num_threads()} of {Environment.ProcessorCount} cores; unset it to use all.");
        }

        foreach (var line in arguments.GetValue(CommandLine.Verbose) ? supplier.Description : [])
        {
            Line("", line);
        }

        return ExitCode.Success;
    }

    private static void TellRates(Device device)
    {
        var isCpu = device.type == DeviceType.CPU;
        var (single, half) = (MatrixRate.Measure(ScalarType.Float32, device), MatrixRate.Measure(ScalarType.BFloat16, device));
        foreach (var (name, rate) in new[] { ("float32", single), ("bfloat16", half) })
        {
            Line("matmul", $"{name}: {Amount.Count((long)(rate / 1e9))} GFLOP/s on {(isCpu ? "the CPU" : device.ToString())}");
        }

        if (isCpu)
        {
            var instructions = string.Join(" and ", Processor.BFloat16Instructions);
            Line("bfloat16", instructions.Length == 0 ? "the processor has no instructions for it: it saves memory, but no time"
                : half > FasterByInstructions * single ? $"products use the processor's {instructions}"
                : $"the processor has {instructions}, but matrix products of this torch are no faster with it");
        }
    }

    private static void Line(string name, string value) => Console.Out.WriteLine($"{name,-11} {value}".TrimEnd());
}
