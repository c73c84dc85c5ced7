using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>
/// P-tuning's other network: a bidirectional LSTM (Hochreiter and Schmidhuber, 1997) over the virtual tokens, each layer of which reads the outputs of both
/// directions of the one before, and two linear layers behind it. Parameters have torch's names and order: input, forget, cell and output gate.
/// </summary>
/// <param name="layers">Number of layers of the LSTM.</param>
/// <param name="dropout">Dropout probability between them while training.</param>
internal sealed class LstmEncoder(int layers, double dropout)
{
    private const int PerDirection = 4;

    /// <summary>The LSTM's parameters, layer by layer, forward and backward.</summary>
    /// <param name="width">Width of the virtual tokens.</param>
    /// <param name="hidden">Width of a direction.</param>
    /// <param name="take">Takes a tensor.</param>
    internal IEnumerable<(string Name, Parameter Parameter)> Parameters(long width, long hidden, Func<string, Fill, long[], Parameter> take)
    {
        var fill = Fills.Uniform(1 / Math.Sqrt(hidden));
        for (var layer = 0; layer < layers; layer++)
        {
            var input = layer == 0 ? width : 2 * hidden;
            foreach (var direction in new[] { "", "_reverse" })
            {
                (string Name, long[] Shape)[] all = [("weight_ih", [4 * hidden, input]), ("weight_hh", [4 * hidden, hidden]), ("bias_ih", [4 * hidden]), ("bias_hh", [4 * hidden])];
                foreach (var (name, shape) in all)
                {
                    var full = FormattableString.Invariant($"lstm_head.{name}_l{layer}{direction}");
                    yield return (full, take(full, fill, shape));
                }
            }
        }
    }

    /// <summary>The embeddings of the virtual tokens, [tokens, width].</summary>
    /// <param name="weights">The embedding that is read, [tokens, width], the LSTM's parameters, and weights and biases of the linear layers.</param>
    /// <param name="isTraining">Whether dropout is on.</param>
    internal Tensor Encode(IReadOnlyList<Tensor> weights, bool isTraining)
    {
        var states = weights[0];
        for (var layer = 0; layer < layers; layer++)
        {
            var first = 1 + (2 * PerDirection * layer);
            states = layer > 0 && isTraining && dropout > 0 ? nn.functional.dropout(states, dropout, training: true) : states;
            states = cat([Direction(states, weights, first, isReverse: false), Direction(states, weights, first + PerDirection, isReverse: true)], -1);
        }

        var head = 1 + (2 * PerDirection * layers);
        states = nn.functional.relu(nn.functional.linear(states, weights[head], weights[head + 1]));
        return nn.functional.linear(states, weights[head + 2], weights[head + 3]);
    }

    // [tokens, hidden], each token's output at its place.
    private static Tensor Direction(Tensor states, IReadOnlyList<Tensor> weights, int first, bool isReverse)
    {
        var (tokens, own) = ((int)states.size(0), nn.functional.linear(states, weights[first], weights[first + 2]));
        var outputs = new Tensor[tokens];
        var (output, cell) = (zeros([1, weights[first + 1].size(1)], states.dtype, states.device), zeros([1, weights[first + 1].size(1)], states.dtype, states.device));
        for (var i = 0; i < tokens; i++)
        {
            var at = isReverse ? tokens - 1 - i : i;
            var gates = own.narrow(0, at, 1).add(nn.functional.linear(output, weights[first + 1], weights[first + 3])).chunk(4, -1);
            cell = gates[1].sigmoid().mul(cell).add(gates[0].sigmoid().mul(gates[2].tanh()));
            output = gates[3].sigmoid().mul(cell.tanh());
            outputs[at] = output;
        }

        return cat(outputs, 0);
    }
}
