using System.CommandLine;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Generation;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt chat.</summary>
internal static class ChatCommand
{
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapters = new("--adapter") { Description = "The folder of an adapter, or NAME=DIR; of several the first is on, and /adapter NAME changes to another.", HelpName = "[NAME=]DIR" };
    private static readonly Option<string?> s_system = new("--system") { Description = "What the model is told first.", HelpName = "TEXT" };
    private static readonly SamplingOptions s_sampling = new(512, 0.7);
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    internal static Command Create()
    {
        var command = new Command("chat", "Talks with a model in the terminal. /help tells what can be typed.") { s_model, s_adapters, s_system, s_device, s_dtype };
        s_sampling.AddTo(command);
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = new ModelSession(arguments.GetValue(s_model)!, null, arguments.GetValue(s_dtype)!, arguments.GetValue(s_device)!);
        var adapters = new Dictionary<string, LoraAdapter>(StringComparer.Ordinal);
        try
        {
            foreach (var (name, folder) in (arguments.GetValue(s_adapters) ?? []).Select(Named))
            {
                adapters.Add(name, PeftFolder.Load(session.Model, folder, static warning => Console.Error.WriteLine($"warning: {warning}")));
            }

            var options = s_sampling.Read(arguments, EndTokens.Of(session.Loaded.Folder, session.Tokenizer));
            var chat = new ChatLoop(session.Model, session.Tokenizer, adapters, options, s_sampling.Stops(arguments), Console.In, Console.Out, Console.Error);
            chat.UseSystem(arguments.GetValue(s_system));
            Signals.Interrupted = () =>
            {
                // Nothing is under way that would have to be saved, and the input cannot be woken.
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
            foreach (var adapter in adapters.Values)
            {
                adapter.Dispose();
            }
        }

        return ExitCode.Success;
    }

    private static (string Name, string Folder) Named(string text) =>
        !Path.Exists(text) && text.IndexOf('=', StringComparison.Ordinal) is > 0 and var at
            ? (text[..at], text[(at + 1)..])
            : (Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(text))), text);
}
