using System.CommandLine;
using OpenWeights.Hub;
using OpenWeights.Tune.Cli.Output;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt download.</summary>
internal static class DownloadCommand
{
    private static readonly Argument<string> s_name = new("name") { Description = "Name of the model on the Hugging Face Hub.", HelpName = "ORG/NAME" };
    private static readonly Option<string> s_revision = new("--revision") { Description = "A branch, tag or commit.", DefaultValueFactory = static _ => "main" };
    private static readonly Option<string[]> s_include = new("--include") { Description = "Download files that match this pattern; may be repeated. By default: the files a model needs (config, safetensors, tokenizer, licence).", HelpName = "PATTERN" };
    private static readonly Option<string[]> s_exclude = new("--exclude") { Description = "Skip files that match this pattern.", HelpName = "PATTERN" };

    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("download", "Downloads a model from the Hugging Face Hub into the shared cache, and prints its folder.") { s_name, s_revision, s_include, s_exclude, s_json };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var include = arguments.GetValue(s_include) is { Length: > 0 } patterns ? patterns : null;
        var folder = HubDownload.Fetch(
            HubSettings.FromEnvironment(),
            arguments.GetValue(s_name)!,
            arguments.GetValue(s_revision)!,
            new HubFilter(include, arguments.GetValue(s_exclude) ?? []),
            new DownloadConsole(),
            Signals.Stop).GetAwaiter().GetResult();
        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(new { name = arguments.GetValue(s_name), revision = arguments.GetValue(s_revision), folder });
            return ExitCode.Success;
        }

        Console.Out.WriteLine(folder);
        return ExitCode.Success;
    }
}
