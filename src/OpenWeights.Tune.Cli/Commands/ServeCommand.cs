using System.CommandLine;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Server;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt serve.</summary>
internal static class ServeCommand
{
    private const double BytesOfMegabyte = 1 << 20;

    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapters = new("--adapter") { Description = "An adapter that requests can name: its folder, a run folder or a checkpoint, or NAME=DIR. May be repeated.", HelpName = "[NAME=]DIR" };
    private static readonly Option<string?> s_name = new("--name") { Description = "Name of the base model in requests; default: its own.", HelpName = "NAME" };
    private static readonly Option<string> s_host = new("--host") { Description = "Address to listen on; * for all. Beyond this machine a key is required.", HelpName = "ADDRESS", DefaultValueFactory = static _ => "127.0.0.1" };
    private static readonly Option<int> s_port = CommonOptions.Number("--port", "Port to listen on; 0 for a free one.", 8080, 0, 65535);
    private static readonly Option<string[]> s_keys = new("--api-key") { Description = "A key that requests must have, as \"Authorization: Bearer KEY\"; may be repeated. Others on this machine can see a command line: --api-key-file is safer.", HelpName = "KEY" };
    private static readonly Option<string?> s_keyFile = new("--api-key-file") { Description = "A file with a key on each line.", HelpName = "FILE" };
    private static readonly Option<string?> s_below = new("--adapters-below") { Description = "Allow requests to load and unload adapters: the folders below this one.", HelpName = "DIR" };
    private static readonly Option<string[]> s_cors = new("--cors") { Description = "An origin of web pages that may use the server, such as https://example.org; * for all. May be repeated.", HelpName = "ORIGIN" };
    private static readonly Option<int> s_batch = CommonOptions.Number("--max-batch", "Maximum number of answers that are generated at a time.", 16, 1);
    private static readonly Option<int> s_waiting = CommonOptions.Number("--max-waiting", "Maximum number of answers that wait; more are refused (429).", 256, 0);
    private static readonly Option<int?> s_context = CommonOptions.Number<int>("--context", "Maximum number of tokens of a prompt and its answer; default: the model's.", 2);
    private static readonly Option<double?> s_cache = CommonOptions.Number<double>("--cache-mb", "Memory of keys and values, in MiB; default: a quarter of what is free.", 1);
    private static readonly Option<int> s_choices = CommonOptions.Number("--max-choices", "Maximum number of choices of a request.", 32, 1);
    private static readonly Option<double> s_size = CommonOptions.Number("--max-request-mb", "Maximum size of a request, in MiB.", 8, 0.001, 1024);
    private static readonly Option<double> s_timeout = CommonOptions.Number("--timeout", "Maximum duration of an answer, in seconds.", 1800.0, 0.1, 864000);
    private static readonly Option<bool> s_noPage = new("--no-page") { Description = "Serve no page at /." };
    private static readonly Option<bool> s_anyBase = CommonOptions.AnyBase();
    private static readonly Option<string?> s_quantization = CommonOptions.Quantization();
    private static readonly Option<string?> s_values = ModelOptions.ChatTemplateKwargs();
    private static readonly Option<string?> s_template = new("--chat-template") { Description = "Chat template in place of the model's: a file, chatml, llama3, gemma, mistral, phi3, zephyr or alpaca; default: the model's, or chatml for a model without one.", HelpName = "NAME|FILE" };
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    internal static Command Create()
    {
        var command = new Command("serve", "Serves a model and its adapters in OpenAI's protocol, with a page to chat with.")
        {
            s_model, s_adapters, s_name, s_host, s_port, s_keys, s_keyFile, s_below, s_cors, s_context, s_batch, s_waiting, s_cache, s_choices, s_size, s_timeout, s_noPage,
            s_template, s_values, s_device, s_dtype, s_quantization, s_anyBase,
        };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var options = Options(arguments);
        if (options.Problem is { } problem)
        {
            throw new ConfigException([new ConfigProblem("command line", "owt serve", problem)]);
        }

        var work = new ServeWork(options, Model(arguments), Console.Out, Console.Error);
        work.RunAsync(Signals.Stop).GetAwaiter().GetResult();
        return ExitCode.Success;
    }

    private static ServerOptions Options(ParseResult arguments) => new()
    {
        Host = arguments.GetValue(s_host)!,
        Port = arguments.GetValue(s_port),
        ApiKeys = [.. arguments.GetValue(s_keys) ?? [], .. Keys(arguments.GetValue(s_keyFile))],
        CorsOrigins = arguments.GetValue(s_cors) ?? [],
        AdaptersBelow = arguments.GetValue(s_below) is { } folder ? Path.GetFullPath(folder) : null,
        MaxRequestBytes = (long)(arguments.GetValue(s_size) * BytesOfMegabyte),
        MaxChoices = arguments.GetValue(s_choices),
        Timeout = TimeSpan.FromSeconds(arguments.GetValue(s_timeout)),
        HasPage = !arguments.GetValue(s_noPage),
    };

    private static ServedFiles Model(ParseResult arguments) => new(arguments.GetValue(s_model)!, [.. (arguments.GetValue(s_adapters) ?? []).Select(ChatCommand.Named)])
    {
        Name = arguments.GetValue(s_name),
        DType = arguments.GetValue(s_dtype)!,
        Device = arguments.GetValue(s_device)!,
        Quantization = arguments.GetValue(s_quantization),
        AnyBase = arguments.GetValue(s_anyBase),
        ChatTemplate = arguments.GetValue(s_template),
        TemplateValues = ModelOptions.Values(arguments.GetValue(s_values)),
        Engine = new()
        {
            MaxRows = arguments.GetValue(s_batch),
            MaxWaiting = arguments.GetValue(s_waiting),
            MaxPositions = arguments.GetValue(s_context),
            MaxCacheBytes = arguments.GetValue(s_cache) is { } megabytes ? (long)(megabytes * BytesOfMegabyte) : null,
        },
    };

    private static string[] Keys(string? file)
    {
        if (file is null)
        {
            return [];
        }

        if (!File.Exists(file))
        {
            throw new InvalidDataException($"{file} does not exist; --api-key-file names a file with a key on each line.");
        }

        string[] keys = [.. File.ReadAllLines(file).Select(static l => l.Trim()).Where(static l => l.Length > 0)];
        return keys.Length > 0 ? keys : throw new InvalidDataException($"{file} has no key; write one on a line, such as the output of `openssl rand -hex 32`.");
    }
}
