using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Server.Measuring;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt bench serve.</summary>
internal static class BenchServeCommand
{
    private static readonly Option<string> s_url = new("--url") { Description = "The server: owt serve, llama.cpp's, or another of OpenAI's protocol.", HelpName = "URL", DefaultValueFactory = static _ => "http://127.0.0.1:8080" };
    private static readonly Option<string?> s_model = new("--model-name") { Description = "Name of the model in the requests.", HelpName = "NAME" };
    private static readonly Option<string?> s_key = new("--api-key") { Description = "The server's key.", HelpName = "KEY" };
    private static readonly Option<int[]> s_clients = new("--clients") { Description = "Number of clients that ask again as soon as they have their answer; several values are measured one after the other.", DefaultValueFactory = static _ => [1, 4, 16], AllowMultipleArgumentsPerToken = true };
    private static readonly Option<double[]> s_rates = new("--rate") { Description = "Instead of clients: requests per second that come whether earlier ones are answered or not; several values are measured one after the other.", DefaultValueFactory = static _ => [], AllowMultipleArgumentsPerToken = true };
    private static readonly Option<int> s_requests = CommonOptions.Number("--requests", "Number of requests of each client, or of each rate.", 4, 1);
    private static readonly Option<int> s_new = CommonOptions.Number("--new-tokens", "Number of tokens of an answer.", 64, 1);

    internal static Command Create()
    {
        var command = new Command("serve", "Measures a running server with chats that are streamed: tokens per second, and the time to the first token; prints a line of JSON per number of clients.")
        {
            s_url, s_model, s_key, s_clients, s_rates, s_requests, s_new, BenchCommand.Json,
        };
        command.Validators.Add(static result =>
        {
            if (result.GetResult(s_url) is { Implicit: false } && (!Uri.TryCreate(result.GetValue(s_url), UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https")))
            {
                result.AddError("--url must be the address of a server, such as http://127.0.0.1:8080.");
            }

            if ((result.GetValue(s_clients) ?? []).Any(static c => c < 1) || (result.GetValue(s_rates) ?? []).Any(static r => !(r > 0)))
            {
                result.AddError("--clients must be at least 1, and --rate above 0.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var benchmark = new ServerBenchmark(new ServerBenchmarkSettings(new Uri(arguments.GetValue(s_url)!), arguments.GetValue(s_new)) { Model = arguments.GetValue(s_model), ApiKey = arguments.GetValue(s_key) });
        var requests = arguments.GetValue(s_requests);
        try
        {
            if (arguments.GetValue(s_rates) is { Length: > 0 } rates)
            {
                foreach (var rate in rates)
                {
                    Print(benchmark.OpenAsync(rate, requests, Signals.Stop).GetAwaiter().GetResult());
                }
            }
            else
            {
                foreach (var clients in arguments.GetValue(s_clients)!)
                {
                    Print(benchmark.ClosedAsync(clients, requests, Signals.Stop).GetAwaiter().GetResult());
                }
            }
        }
        catch (HttpRequestException e)
        {
            throw new IOException($"{arguments.GetValue(s_url)} cannot be measured: {e.Message} Start it with `owt serve`.", e);
        }

        return ExitCode.Success;
    }

    private static void Print(ServerBenchmarkResult result) => JsonLines.Write(new
    {
        clients = result.Clients,
        rate = result.Rate,
        requests = result.Requests,
        tokens = result.Tokens,
        tokens_per_second = result.TokensPerSecond,
        first_token_median_s = result.FirstTokenMedian,
        first_token_p95_s = result.FirstTokenP95,
        answer_median_s = result.AnswerMedian,
        answer_p95_s = result.AnswerP95,
    });
}
