using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Server.Metrics;
using OpenWeights.Tune.Server.Page;
using OpenWeights.Tune.Server.Protocols.LlamaCpp;
using OpenWeights.Tune.Server.Protocols.OpenAi;
using OpenWeights.Tune.Server.Safety;

namespace OpenWeights.Tune.Server;

/// <summary>
/// Serves an <see cref="AnswerService"/> over HTTP in OpenAI's protocol. It listens before the model is there, and says so until it is. Nothing is read from
/// files or environment variables.
/// </summary>
internal sealed class AnswerServer : IAsyncDisposable
{
    private readonly ServerState _state;
    private readonly WebApplication _app;
    private readonly MetricsPage _metrics;

    /// <summary>Creates a server.</summary>
    /// <param name="options">Settings.</param>
    /// <param name="report">Receives unexpected failures; null for none.</param>
    /// <exception cref="ArgumentException">The settings are unsafe or wrong; see <see cref="ServerOptions.Problem"/>.</exception>
    public AnswerServer(ServerOptions options, Action<Exception>? report = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Problem is { } problem)
        {
            throw new ArgumentException(problem, nameof(options));
        }

        _state = new ServerState(options, report);
        _metrics = new MetricsPage();
        _app = Build(options);
        var guard = new Guard(_state, options);
        _ = _app.Use(next => context => guard.PassAsync(context, next));
        _ = _app.UseRouting();
        Map(_app, options);
    }

    /// <summary>The address, as a client has it, once the server has been started.</summary>
    public Uri Address
    {
        get
        {
            var address = new Uri(_app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First().Replace("*", "localhost", StringComparison.Ordinal));
            return address.Host is "0.0.0.0" or "[::]" ? new UriBuilder(address) { Host = "localhost" }.Uri : address;
        }
    }

    /// <summary>Begins to listen.</summary>
    /// <param name="stop">Cancels the start.</param>
    /// <exception cref="IOException">The port is taken.</exception>
    public Task StartAsync(CancellationToken stop = default) => _app.StartAsync(stop);

    /// <summary>Answers with a service from now on.</summary>
    /// <param name="service">The service; the caller keeps ownership, and frees it after the server.</param>
    public void Serve(AnswerService service)
    {
        ArgumentNullException.ThrowIfNull(service);
        _state.Serve(service);
    }

    /// <summary>Takes no new requests, and stops when the running answers are finished.</summary>
    /// <param name="stop">Stops at once.</param>
    public async Task DrainAsync(CancellationToken stop = default)
    {
        _state.IsDraining = true;
        await _app.StopAsync(stop).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync().ConfigureAwait(false);
        _metrics.Dispose();
    }

    private static WebApplication Build(ServerOptions options)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        _ = builder.Services.AddRoutingCore().AddSingleton<IHostLifetime, OwnLifetime>();
        _ = builder.Services.Configure<HostOptions>(static host => host.ShutdownTimeout = Timeout.InfiniteTimeSpan);
        _ = builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = options.MaxRequestBytes;
            kestrel.Limits.MaxConcurrentConnections = options.MaxConnections;
            Listen(kestrel, options);
        });
        return builder.Build();
    }

    private static void Listen(KestrelServerOptions kestrel, ServerOptions options)
    {
        switch (options.Host)
        {
            case "*":
                kestrel.ListenAnyIP(options.Port);
                break;
            case "localhost" when options.Port != 0:
                kestrel.ListenLocalhost(options.Port);
                break;
            default:
                kestrel.Listen(IPAddress.TryParse(options.Host, out var address) ? address : IPAddress.Loopback, options.Port);
                break;
        }
    }

    private void Map(IEndpointRouteBuilder routes, ServerOptions options)
    {
        new HealthEndpoint(_state).Map(routes);
        new ModelEndpoints(_state, options).Map(routes);
        new ChatEndpoint(_state, options).Map(routes);
        new CompletionEndpoint(_state, options).Map(routes);
        new EmbeddingEndpoint(_state).Map(routes);
        new TextEndpoints(_state).Map(routes);
        new NativeEndpoint(_state, options).Map(routes);
        _metrics.Map(routes);
        if (options.HasPage)
        {
            PageEndpoint.Map(routes);
            new ReportEndpoint(_state).Map(routes);
        }
    }

    // Ctrl-C is the program's affair.
    private sealed class OwnLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
