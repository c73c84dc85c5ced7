using System.CommandLine;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt chat.</summary>
internal static class ChatCommand
{
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapters = new("--adapter") { Description = "An adapter: its folder, a run folder or a checkpoint, or NAME=DIR. With several, the first is active; /adapter NAME switches.", HelpName = "[NAME=]DIR" };
    private static readonly Option<string?> s_system = new("--system") { Description = "System message.", HelpName = "TEXT" };
    private static readonly SamplingOptions s_sampling = new(512, 0.7);
    private static readonly Option<bool> s_anyBase = CommonOptions.AnyBase();
    private static readonly Option<string?> s_quantization = CommonOptions.Quantization();
    private static readonly Option<string?> s_values = ModelOptions.ChatTemplateKwargs();
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    internal static Command Create()
    {
        s_adapters.Validators.Add(static result =>
        {
            var names = (result.GetValueOrDefault<string[]>() ?? []).Select(static t => Named(t).Name).ToList();
            if (names.GroupBy(static n => n).FirstOrDefault(static g => g.Count() > 1 || g.Key == ChatLoop.None) is { } wrong)
            {
                result.AddError($"--adapter: {(wrong.Key == ChatLoop.None ? "'none' stands for the base model without adapter" : $"two adapters are named {wrong.Key}")}; name them with NAME=DIR.");
            }
        });
        var command = new Command("chat", "Chats with a model in the terminal. /help lists the commands.") { s_model, s_adapters, s_system, s_values, s_device, s_dtype, s_quantization, s_anyBase };
        s_sampling.AddTo(command);
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = new ModelSession(arguments.GetValue(s_model)!, [], arguments.GetValue(s_dtype)!, arguments.GetValue(s_device)!, arguments.GetValue(s_quantization), anyBase: false, []);
        foreach (var (name, folder) in (arguments.GetValue(s_adapters) ?? []).Select(Named))
        {
            _ = session.Adapters.Load(name, folder, ModelSession.Warn, arguments.GetValue(s_anyBase));
        }

        var template = NamedTemplates.WithValues(
            (arguments.GetValue(s_adapters) ?? []).Select(static a => PeftFolder.ChatTemplate(Named(a).Folder)).FirstOrDefault(static t => t is not null) ?? session.ChatTemplate,
            session.Loaded.Folder.FolderPath,
            ModelOptions.Values(arguments.GetValue(s_values)));
        var tokenizer = template is null ? session.Tokenizer : session.Tokenizer.WithChatTemplate(template);
        try
        {
            var options = s_sampling.Read(arguments, EndTokens.Of(session.Loaded.Folder, tokenizer));
            using var chat = new ChatLoop(session.Model, tokenizer, session.Adapters, options, s_sampling.Stops(arguments), Console.In, Console.Out, Console.Error, s_sampling.ShowsReasoning(arguments));
            chat.UseSystem(arguments.GetValue(s_system));
            Signals.Interrupted = () =>
            {
                // Nothing needs to be saved, and reading the input cannot be interrupted.
                if (!chat.Interrupt())
                {
                    Environment.Exit(ExitCode.Stopped);
                }

                return true;
            };
            chat.Run();
        }
        finally
        {
            Signals.Interrupted = null;
        }

        return ExitCode.Success;
    }

    /// <summary>An adapter on the command line: NAME=DIR, or a folder, whose name is then the adapter's.</summary>
    internal static (string Name, string Folder) Named(string text) =>
        !Path.Exists(text) && text.IndexOf('=', StringComparison.Ordinal) is > 0 and var at
            ? (text[..at], UserPath.Expand(text[(at + 1)..]))
            : (Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(text))), text);
}
