namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>A request that is refused, with what its answer says.</summary>
internal sealed class RequestException(int status, ErrorFields error) : Exception(error.Message)
{
    internal const string Invalid = "invalid_request_error";

    /// <summary>A field of the request is wrong.</summary>
    internal RequestException(string message, string? param)
        : this(400, new ErrorFields(message, Invalid) { Param = param })
    {
    }

    /// <summary>The HTTP status.</summary>
    internal int Status { get; } = status;

    internal ErrorFields Error { get; } = error;
}
