using System.CommandLine;
using System.Runtime.InteropServices;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt doctor.</summary>
internal static class DoctorCommand
{
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("doctor", "Tells what torch runs on here, how fast it is, and what would make it faster.") { s_json };
        command.SetAction(static arguments =>
        {
            if (!arguments.GetValue(s_json))
            {
                return Run();
            }

            JsonLines.Write(PrintedText.Table(PrintedText.Of(static () => Run())));
            return ExitCode.Success;
        });
        return command;
    }

    private static int Run()
    {
        Devices.UseAllCores();
        var supplier = TorchSupplier.Current;
        Console.Out.WriteLine($"torch       {supplier.Name}, {supplier.Version}");
        Console.Out.WriteLine($".NET        {RuntimeInformation.FrameworkDescription} on {RuntimeInformation.OSDescription}, {RuntimeInformation.ProcessArchitecture}");
        Console.Out.WriteLine($"cores       {Environment.ProcessorCount}, of which torch uses {get_num_threads()}");
        Console.Out.WriteLine($"memory      {Amount.Bytes(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes)}");
        var gpus = cuda.is_available() ? cuda.device_count() : 0;
        Console.Out.WriteLine($"GPUs        {gpus}");
        foreach (var device in Enumerable.Range(0, gpus).Select(static i => new Device(DeviceType.CUDA, i)).Prepend(CPU))
        {
            foreach (var (name, type) in new[] { ("float32", float32), ("bfloat16", bfloat16) })
            {
                Console.Out.WriteLine($"matmul      {name}: {Amount.Count((long)(MatrixRate.Measure(type, device) / 1e9))} GFLOP/s on {(device.type == DeviceType.CPU ? "the CPU" : device.ToString())}");
            }
        }

        foreach (var line in supplier.Description)
        {
            Console.Out.WriteLine($"            {line}");
        }

        foreach (var note in supplier.Notes)
        {
            Console.Out.WriteLine($"note        {note}");
        }

        if (get_num_threads() < Environment.ProcessorCount)
        {
            Console.Out.WriteLine($"advice      OMP_NUM_THREADS holds torch to {get_num_threads()} of {Environment.ProcessorCount} cores; unset it to use all.");
        }

        return ExitCode.Success;
    }
}
