using System.CommandLine;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration.Foreign;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt convert.</summary>
internal static class ConvertCommand
{
    private static readonly Argument<string> s_file = new("file") { Description = $"YAML file of another program: {string.Join(", ", ConfigConverter.Tools)}.", HelpName = "FILE" };
    private static readonly Option<string?> s_output = new("--output") { Description = "YAML file to write; it must not exist. By default the result is printed.", HelpName = "FILE" };
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("convert", "Converts a YAML file of another program, and lists settings without a counterpart.") { s_file, s_output, s_json };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var output = arguments.GetValue(s_output);
        if (output is not null)
        {
            _ = CommonOptions.NewOutput(output);
        }

        var converted = ConfigConverter.Convert(arguments.GetValue(s_file)!);
        if (output is not null)
        {
            AtomicFile.WriteText(output, converted.Write());
        }

        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(new JsonObject
            {
                ["tool"] = converted.Tool,
                ["output"] = output,
                ["config"] = converted.Write(),
                ["settings"] = new JsonObject(converted.Settings.Select(static s => KeyValuePair.Create(s.Key, (JsonNode?)s.Value))),
                ["left_out"] = new JsonArray([.. converted.LeftOut.Select(static l => (JsonNode)new JsonObject { ["name"] = l.Name, ["why"] = l.Why })]),
            });
            return ExitCode.Success;
        }

        Console.Out.Write(output is null ? converted.Write() : $"config of {converted.Tool} converted to {output}; review it, then run: owt validate {output}\n");
        if (converted.LeftOut.Count > 0)
        {
            Console.Error.WriteLine($"{converted.LeftOut.Count} of its settings {(converted.LeftOut.Count == 1 ? "was" : "were")} not converted:");
            foreach (var (name, why) in converted.LeftOut)
            {
                Console.Error.WriteLine($"  {name}: {why}");
            }
        }

        return ExitCode.Success;
    }
}
