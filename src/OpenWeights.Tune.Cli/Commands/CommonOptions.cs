using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Options that several commands share, so that they read the same everywhere.</summary>
internal static class CommonOptions
{
    internal static Option<string> Model() => new("--model") { Description = "The base model: its folder, a GGUF file, a run's folder (with its adapter on), or its name on the Hub.", HelpName = "DIR", Required = true };

    internal static Option<string[]> Adapters(string description = "An adapter: its folder, as PEFT writes it, a run's or a checkpoint's; DIR=0.7 takes so much of it, and several are added up.")
    {
        var option = new Option<string[]>("--adapter") { Description = description, HelpName = "DIR" };
        option.Validators.Add(static result =>
        {
            var folders = (result.GetValueOrDefault<string[]>() ?? []).Select(static t => AdapterChoice.Parse(t).Folder).ToList();
            if (folders.Count != folders.Distinct().Count())
            {
                result.AddError("--adapter: the same folder is given twice; give it once with the sum of its weights.");
            }
        });
        return option;
    }

    internal static Option<string?> Quantization()
    {
        var option = new Option<string?>("--quantization") { Description = "Hold the linear layers in few bits while running: none, nf4 or int8; as an adapter was trained, so it works best." };
        _ = option.OnlyFrom("none", "nf4", "int8");
        return option;
    }

    /// <summary>The --output of a command, as a full path. What is there already is never written over.</summary>
    /// <exception cref="ConfigException">Something is there.</exception>
    internal static string NewOutput(string output) => !Path.Exists(output)
        ? Path.GetFullPath(output)
        : throw new ConfigException([new ConfigProblem("", "--output", $"{output} exists already; give another --output, or remove it.")]);

    /// <summary>The same of a command that prints JSON anyway.</summary>
    internal static Option<bool> JsonAnyway() => new("--json") { Description = "Print JSON, as without it." };

    internal static Option<bool> AnyBase() => new("--any-base") { Description = "Take an adapter over a base whose values are not those that it was made for." };

    internal static Option<bool> Json() => new("--json") { Description = "Print JSON instead of text." };

    internal static Option<string> Device()
    {
        var option = new Option<string>("--device") { Description = "Where to run: auto, cpu, cuda or cuda:N.", DefaultValueFactory = static _ => "auto" };
        option.Validators.Add(static result =>
        {
            if (Devices.NameProblem(result.GetValueOrDefault<string>() ?? "") is { } problem)
            {
                result.AddError($"--device: {problem}");
            }
        });
        return option;
    }

    /// <summary>A number within bounds.</summary>
    internal static Option<T> Number<T>(string name, string description, T fallback, T least, T? most = null)
        where T : struct, INumber<T>
    {
        var option = new Option<T>(name) { Description = description, DefaultValueFactory = _ => fallback };
        option.Validators.Add(result =>
        {
            if (!AreNumbers<T>(result))
            {
                return;
            }

            var value = result.GetValueOrDefault<T>();
            if (value < least || value > (most ?? value) || T.IsNaN(value))
            {
                result.AddError(most is { } bound ? $"{name} must be from {least} to {bound}." : $"{name} must be at least {least}.");
            }
        });
        return option;
    }

    /// <summary>Whether what was given are numbers, which the parser asks for only after the validators; it says what is wrong.</summary>
    internal static bool AreNumbers<T>(OptionResult result)
        where T : struct, INumber<T>
    {
        if (result.Tokens.FirstOrDefault(static token => !T.TryParse(token.Value, CultureInfo.InvariantCulture, out _)) is not { } wrong)
        {
            return true;
        }

        result.AddError($"{result.Option.Name}: '{wrong.Value}' is not a {(T.IsInteger(T.One / (T.One + T.One)) ? "whole number" : "number")}.");
        return false;
    }

    internal static Option<string> DType()
    {
        var option = new Option<string>("--dtype") { Description = "The dtype to compute in: auto (the checkpoint's), float32, bfloat16 or float16.", DefaultValueFactory = static _ => "auto" };
        _ = option.OnlyFrom("auto", "float32", "bfloat16", "float16");
        return option;
    }
}
