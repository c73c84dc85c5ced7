using System.CommandLine;
using OpenWeights.Hub;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Export;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt push.</summary>
internal static class PushCommand
{
    private static readonly Argument<string> s_path = new("path") { Description = "What to upload: a run's folder, an adapter's or a model's, or a GGUF file.", HelpName = "PATH" };
    private static readonly Option<string> s_repository = new("--repo") { Description = "Repository on the Hugging Face Hub, which is created if there is none.", HelpName = "ORG/NAME", Required = true };
    private static readonly Option<bool> s_public = new("--public") { Description = "Make a new repository public; by default it is private. One that exists stays as it is." };
    private static readonly Option<string> s_revision = new("--revision") { Description = "The branch.", DefaultValueFactory = static _ => "main" };
    private static readonly Option<string> s_message = new("--commit-message") { Description = "Message of the commit.", HelpName = "TEXT", DefaultValueFactory = static _ => "Upload with OpenWeights.Tune" };
    private static readonly Option<bool> s_yes = new("--yes") { Description = "Upload. Without it the files and the model card are shown, and nothing is sent." };
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("push", "Uploads an adapter, a model or a GGUF file to the Hugging Face Hub, with a model card; shows first what would be uploaded.") { s_path, s_repository, s_public, s_revision, s_message, s_yes, s_json };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_repository) is { } repository && !HubName.IsName(repository))
            {
                result.AddError($"--repo: '{repository}' is not a name on the Hub; write ORG/NAME.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var (repository, json) = (arguments.GetValue(s_repository)!, arguments.GetValue(s_json));
        var push = HubPush.Of(arguments.GetValue(s_path)!, repository);
        if (push.License is null)
        {
            ModelSession.Warn("no licence of the base model is known here, and the card says so; look its terms up before you publish.");
        }

        if (!json)
        {
            Show(push, repository, arguments.GetValue(s_public));
        }

        var commit = arguments.GetValue(s_yes) ? Upload(push, arguments) : null;
        if (json)
        {
            JsonLines.Write(new { repository, kind = push.Kind, files = push.Files.Select(static f => new { path = f.Path, bytes = f.Length }), card = push.Card, license = push.License, commit });
        }
        else
        {
            Console.Out.WriteLine(commit is null ? "\nnothing was uploaded; --yes uploads it" : $"\nuploaded: {commit}");
        }

        return ExitCode.Success;
    }

    private static string Upload(HubPush push, ParseResult arguments)
    {
        using var upload = new HubUpload(HubSettings.FromEnvironment(), arguments.GetValue(s_repository)!, arguments.GetValue(s_revision)!);
        var sent = 0L;
        return upload.Push(push.Files, !arguments.GetValue(s_public), arguments.GetValue(s_message)!, bytes => Console.Error.WriteLine($"{Amount.Bytes(sent += bytes)} of large files are there"), Signals.Stop).GetAwaiter().GetResult();
    }

    private static void Show(HubPush push, string repository, bool isPublic)
    {
        Console.Out.WriteLine($"{push.Kind} to {HubSettings.FromEnvironment().Endpoint.ToString().TrimEnd('/')}/{repository} ({(isPublic ? "public" : "private")} if it is new)");
        foreach (var file in push.Files)
        {
            Console.Out.WriteLine($"  {Amount.Bytes(file.Length),10}  {file.Path}");
        }

        Console.Out.WriteLine($"\n{ModelCardName}:\n{push.Card.TrimEnd()}");
    }

    private const string ModelCardName = "README.md";
}
