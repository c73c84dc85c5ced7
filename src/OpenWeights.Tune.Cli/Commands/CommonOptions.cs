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

    /// <summary>A tokenizer and its chat template, which a model has too.</summary>
    internal static Option<string?> Tokenizer() => new("--model", "--tokenizer") { Description = "The model whose tokenizer and chat template are used: its folder, a GGUF file, a run's folder, its name on the Hub (no weights are fetched), or a tokenizer's file.", HelpName = "DIR_OR_FILE" };

    internal static Option<string[]> Adapters(string description = "An adapter: its folder, as PEFT writes it, a run's or a checkpoint's; DIR=0.7 scales it, and several are added up.")
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
        var option = new Option<string?>("--quantization") { Description = "Quantise the linear layers while running: none, nf4 or int8. An adapter works best as it was trained." };
        _ = option.OnlyFrom("none", "nf4", "int8");
        return option;
    }

    /// <summary>The --output of a command, as a full path. What is there already is never written over.</summary>
    /// <exception cref="ConfigException">Something is there.</exception>
    internal static string NewOutput(string output) => !Path.Exists(output)
        ? Path.GetFullPath(output)
        : throw new ConfigException([new ConfigProblem("", "--output", $"{output} exists already; give another --output, or remove it.")]);

    /// <summary>The same of a command that prints JSON anyway.</summary>
    internal static Option<bool> JsonAnyway() => new("--json") { Description = "Print JSON, which this command does anyway." };

    internal static Option<bool> AnyBase() => new("--any-base") { Description = "Use an adapter on a base with other values than it was made for." };

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
        option.Validators.Add(result => RequireBounds(result, static r => r.GetValueOrDefault<T>(), least, most));
        return option;
    }

    /// <summary>A number within a bound that may be left out.</summary>
    internal static Option<T?> Number<T>(string name, string description, T least)
        where T : struct, INumber<T>
    {
        var option = new Option<T?>(name) { Description = description };
        option.Validators.Add(result => RequireBounds(result, static r => r.GetValueOrDefault<T?>(), least, null));
        return option;
    }

    private static void RequireBounds<T>(OptionResult result, Func<OptionResult, T?> get, T least, T? most)
        where T : struct, INumber<T>
    {
        if (AreNumbers<T>(result) && get(result) is { } value && (value < least || value > (most ?? value) || T.IsNaN(value)))
        {
            result.AddError($"{result.Option.Name} must be {SettingCheck.Bounds(double.CreateChecked(least), most is { } bound ? double.CreateChecked(bound) : double.PositiveInfinity)}.");
        }
    }

    /// <summary>Whether what was given are numbers, which the parser asks for only after the validators; it says what is wrong.</summary>
    internal static bool AreNumbers<T>(OptionResult result)
        where T : struct, INumber<T>
    {
        if (result.Tokens.FirstOrDefault(static token => !T.TryParse(token.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out _)) is not { } wrong)
        {
            return true;
        }

        var whole = T.IsInteger(T.One / (T.One + T.One));
        result.AddError($"{result.Option.Name}: '{wrong.Value}' is not a {(whole ? "whole number" : "number")}{(!whole && wrong.Value.Contains(',', StringComparison.Ordinal) ? "; decimals are written with a point" : "")}.");
        return false;
    }

    internal static Option<string> DType()
    {
        var option = new Option<string>("--dtype") { Description = "The dtype to compute in: auto (the checkpoint's), float32, bfloat16 or float16.", DefaultValueFactory = static _ => "auto" };
        _ = option.OnlyFrom("auto", "float32", "bfloat16", "float16");
        return option;
    }
}
