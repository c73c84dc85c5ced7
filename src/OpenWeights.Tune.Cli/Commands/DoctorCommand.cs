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
    internal static Command Create()
    {
        var command = new Command("doctor", "Tells what torch runs on here, how fast it is, and what would make it faster.");
        command.SetAction(static _ => Run());
        return command;
    }

    private static int Run()
    {
        Devices.UseAllCores();
        var supplier = TorchSupplier.Current;
        Console.Out.WriteLine($"torch       {supplier.Name}, {supplier.Version}");
        Console.Out.WriteLine($".NET        {RuntimeInformation.FrameworkDescription} on {RuntimeInformation.OSDescription}, {RuntimeInformation.ProcessArchitecture}");
        Console.Out.WriteLine($"cores       {Environment.ProcessorCount}, of which torch uses {get_num_threads()}");
        Console.Out.WriteLine($"memory      {Amount.Bytes(MachineMemory.Total)}{(MachineMemory.Free is { } free ? $", {Amount.Bytes(free)} of it free" : "")}");
        Console.Out.WriteLine(CgroupMemory.Current is { } group
            ? $"            the control group of this process may hold {Amount.Bytes(group.Limit)}, {Amount.Bytes(group.Free)} of it free"
            : "            no control group limits it");
        var gpus = cuda.is_available() ? cuda.device_count() : 0;
        Console.Out.WriteLine($"GPUs        {gpus}");
        for (var i = 0; i < gpus; i++)
        {
            Console.Out.WriteLine($"            {Gpus.Describe(i)}");
        }

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
