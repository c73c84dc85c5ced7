using System.Numerics;
using TorchSharp;

namespace OpenWeights.Tune.Tests.Adapters.Walk;

/// <content>The formula of each kind.</content>
internal sealed partial class AdapterDefinition
{
    private void Merge(string module)
    {
        var name = $"{module}.weight";
        var weight = new Matrix64(weights[name].Shape, _merged[name]);
        var bias = _merged.GetValueOrDefault($"{module}.bias");
        var merged = Kind switch
        {
            "LORA" => Lora(module, weight, bias),
            "IA3" => Has(module, "ia3_l") && Own(module, "ia3_l").Shape[0] == 1
                ? new Matrix64(weight.Rows, weight.Columns, (i, j) => weight[i, j] * Own(module, "ia3_l").Values[j])
                : new Matrix64(weight.Rows, weight.Columns, (i, j) => weight[i, j] * Own(module, "ia3_l").Values[i]),
            "VERA" => weight + Vera(module, weight),
            "LOHA" => weight + (Of("alpha_pattern", module, Number("alpha")) / Rank(module) * (Own2(module, "hada_w1_a") * Own2(module, "hada_w1_b")).Each(Own2(module, "hada_w2_a") * Own2(module, "hada_w2_b"))),
            "LOKR" => weight + (Of("alpha_pattern", module, Number("alpha")) / Rank(module) * Kronecker(Factor(module, "lokr_w1"), Factor(module, "lokr_w2"))),
            "OFT" => weight * BlockDiagonal(Rotations(module, "oft_R.weight", weight.Columns)).Turned,
            "BOFT" => Boft(module, weight),
            "MISS" => Miss(module, weight),
            "HRA" => weight * Reflections(Own2(module, "hra_u")),
            "HIRA" => weight + weight.Each(Own2(module, "hira_B") * Own2(module, "hira_A")),
            "ADALORA" => weight + ((Number("lora_alpha") > 0 ? Number("lora_alpha") : Number("init_r")) / (Number("init_r") + 1e-5) * (Own2(module, "lora_B") * Diagonal(Own(module, "lora_E").Values) * Own2(module, "lora_A"))),
            "DELORA" => weight + Delora(module),
            "RANDLORA" => weight + Randlora(module, weight),
            "C3A" => weight + Circulant(Own(module, "c3a_kernel"), weight.Columns),
            "SHIRA" => weight + Entries(weight, Own(module, "shira_weight").Values, e => ((int)Own(module, "shira_indices").Values[e], (int)Own(module, "shira_indices").Values[Own(module, "shira_weight").Values.Length + e])),
            "GRALORA" => weight + Gralora(module, weight),
            "FOURIERFT" => weight + (Number("scaling") * Fourier(Entries(weight, Own(module, "fourierft_spectrum").Values, Drawn(weight)))),
            "WAVEFT" => weight + (Number("scaling") * Wavelet(weight, Own(module, "waveft_spectrum").Values, Drawn(weight))),
            "ROAD" => Road(module, weight),
            "VBLORA" => weight + (Mixed(module, "vblora_logits_B", isB: true) * Mixed(module, "vblora_logits_A", isB: false)),
            _ => weight,
        };
        _merged[name] = merged.Values;
        if (bias is not null && Kind is "IA3" && Own(module, "ia3_l").Shape[0] != 1)
        {
            _merged[$"{module}.bias"] = [.. bias.Select((b, i) => b * Own(module, "ia3_l").Values[i])];
        }
        else if (bias is not null && Kind is "ROAD")
        {
            _merged[$"{module}.bias"] = Road(module, new Matrix64([bias.Length], bias)).Values;
        }
    }

    private double Rank(string module) => Of("rank_pattern", module, Number("r"));

    private static Matrix64 Diagonal(double[] values) => new(values.Length, values.Length, (i, j) => i == j ? values[i] : 0);

    private Matrix64 Lora(string module, Matrix64 weight, double[]? bias)
    {
        var scale = LoraScale(IsParameter($"{module}.weight") ? $"{module}.weight" : module);
        if (Has(module, "lora_B.bias"))
        {
            _merged[$"{module}.bias"] = [.. bias!.Select((b, i) => b + (scale * Own(module, "lora_B.bias").Values[i]))];
        }

        var changed = weight + (scale * (Own2(module, "lora_B.weight") * Own2(module, "lora_A.weight")));
        return Has(module, "lora_magnitude_vector")
            ? new Matrix64(weight.Rows, weight.Columns, (i, j) => Own(module, "lora_magnitude_vector").Values[i] / changed.RowNorm(i) * changed[i, j])
            : changed;
    }

    private double LoraScale(string name)
    {
        var rank = Of("rank_pattern", name, Number("r"));
        return Of("alpha_pattern", name, Number("lora_alpha")) / (Flag("use_rslora") ? Math.Sqrt(rank) : rank);
    }

    // A matrix of each expert, [experts, out, in] or (gpt_oss) [experts, in, out]. The ranks of A come expert by expert, those of B rank by rank; of two
    // parameters of a module the first is in its base_layer.
    private double[] Experts(string parameter)
    {
        var (module, own) = (parameter[..parameter.LastIndexOf('.')], weights[parameter]);
        var isInner = parameter.EndsWith("gate_up_proj", StringComparison.Ordinal) && IsParameter($"{module}.down_proj");
        var (a, b) = (Own2(module, $"{(isInner ? "base_layer." : "")}lora_A.weight"), Own2(module, $"{(isInner ? "base_layer." : "")}lora_B.weight"));
        var (count, rank) = ((int)own.Shape[0], (int)Of("rank_pattern", parameter, Number("r")));
        var merged = (double[])own.Values.Clone();
        for (var i = 0; i < merged.Length; i++)
        {
            var (expert, row, column) = (i / (int)(own.Shape[1] * own.Shape[2]), i / (int)own.Shape[2] % (int)own.Shape[1], i % (int)own.Shape[2]);
            var (output, input) = transposes ? (column, row) : (row, column);
            merged[i] += LoraScale(parameter) * Enumerable.Range(0, rank).Sum(k => b[output, (k * count) + expert] * a[(expert * rank) + k, input]);
        }

        return merged;
    }

    private Matrix64 EmbeddingOf(string module, Matrix64 weight)
    {
        if (Kind == "OFT")
        {
            return weight * BlockDiagonal(Rotations(module, "oft_embedding_R.weight", weight.Columns));
        }

        var prefix = Kind == "HIRA" ? "hira" : "lora";
        var update = (Own2(module, $"{prefix}_embedding_B") * Own2(module, $"{prefix}_embedding_A")).Turned;
        if (Kind == "HIRA")
        {
            return weight + weight.Each(update);
        }

        var changed = weight + (LoraScale(module) * update);
        return Has(module, "lora_magnitude_vector")
            ? new Matrix64(weight.Rows, weight.Columns, (i, j) => Own(module, "lora_magnitude_vector").Values[j] / changed.ColumnNorm(j) * changed[i, j])
            : changed;
    }

    private Matrix64 Vera(string module, Matrix64 weight)
    {
        var (a, b) = (file["base_model.vera_A"].Matrix, file["base_model.vera_B"].Matrix);
        var (inner, outer) = (Own(module, "vera_lambda_d").Values, Own(module, "vera_lambda_b").Values);
        return new Matrix64(weight.Rows, weight.Columns, (i, j) => outer[i] * Enumerable.Range(0, inner.Length).Sum(k => b[i, k] * inner[k] * a[k, j]));
    }

    private Matrix64 Factor(string module, string name) => Has(module, name) ? Own2(module, name) : Own2(module, $"{name}_a") * Own2(module, $"{name}_b");

    private static Matrix64 Kronecker(Matrix64 a, Matrix64 b) => new(a.Rows * b.Rows, a.Columns * b.Columns, (i, j) => a[i / b.Rows, j / b.Columns] * b[i % b.Rows, j % b.Columns]);

    private static Matrix64 BlockDiagonal(Matrix64[] blocks)
    {
        var size = blocks[0].Rows;
        return new Matrix64(size * blocks.Length, size * blocks.Length, (i, j) => i / size == j / size ? blocks[i / size][i % size, j % size] : 0);
    }

    // The triangles may be one for all blocks.
    private Matrix64[] Rotations(string module, string name, int features)
    {
        var stored = Own(module, name);
        var entries = (int)stored.Shape[1];
        var size = (int)Math.Round((1 + Math.Sqrt(1 + (8.0 * entries))) / 2);
        var made = Enumerable.Range(0, (int)stored.Shape[0]).Select(b =>
        {
            var triangle = stored.Values[(b * entries)..((b + 1) * entries)];
            if (Flag("coft"))
            {
                var (norm, most) = (Math.Sqrt(2 * triangle.Sum(static v => v * v)), Number("eps") / Math.Sqrt(stored.Shape[0]));
                triangle = norm <= most ? triangle : [.. triangle.Select(v => v * most / norm)];
            }

            var (skew, next) = (new Matrix64(size, size), 0);
            for (var i = 0; i < size; i++)
            {
                for (var j = i + 1; j < size; j++)
                {
                    (skew[i, j], skew[j, i]) = (triangle[next], -triangle[next]);
                    next++;
                }
            }

            return Flag("use_cayley_neumann") ? Series(skew, Whole("num_cayley_neumann_terms")) : (Matrix64.Identity(size) - skew) * (Matrix64.Identity(size) + skew).Inverse();
        }).ToArray();
        return made.Length == features / size ? made : [.. Enumerable.Repeat(made[0], features / size)];
    }

    // I + 2 S + 2 S² + ... + the last power once, n terms; in PEFT 3 terms are 4.
    private static Matrix64 Series(Matrix64 skew, int terms)
    {
        terms = terms == 3 ? 4 : terms;
        var (sum, power) = (Matrix64.Identity(skew.Rows), Matrix64.Identity(skew.Rows));
        for (var i = 1; i < terms; i++)
        {
            power *= skew;
            sum += (i == terms - 1 && i > 2 ? 1 : 2) * power;
        }

        return sum;
    }

    // peft/tuners/boft/layer.py: W' = (M Wᵀ)ᵀ s, M the product of P D Pᵀ with the later factors on the left.
    private Matrix64 Boft(string module, Matrix64 weight)
    {
        var stored = Own(module, "boft_R");
        var (factors, count, size) = ((int)stored.Shape[0], (int)stored.Shape[1], (int)stored.Shape[2]);
        var all = Matrix64.Identity(weight.Columns);
        for (var f = 0; f < factors; f++)
        {
            var blocks = Enumerable.Range(0, count).Select(b =>
            {
                var start = ((f * count) + b) * size * size;
                var given = new Matrix64([size, size], stored.Values[start..(start + (size * size))]);
                var skew = 0.5 * (given - given.Turned);
                return (Matrix64.Identity(size) - skew) * (Matrix64.Identity(size) + skew).Inverse();
            }).ToArray();
            var order = factors == 1 ? [.. Enumerable.Range(0, weight.Columns)] : Butterfly(weight.Columns, count >> f, size / 2);
            var places = new Matrix64(weight.Columns, weight.Columns, (i, j) => order[i] == j ? 1 : 0);
            all = places * BlockDiagonal(blocks) * places.Turned * all;
        }

        var turned = (all * weight.Turned).Turned;
        return new Matrix64(weight.Rows, weight.Columns, (i, j) => turned[i, j] * Own(module, "boft_s").Values[i]);
    }

    private static int[] Butterfly(int features, int blocks, int run)
    {
        var size = features / blocks;
        var steps = Enumerable.Range(0, size / run).ToList();
        var sequence = steps.Where(static s => s % 2 == 0).Concat(steps.Where(static s => s % 2 == 1));
        int[] sorted = [.. sequence.SelectMany(s => Enumerable.Range(s * run, run))];
        return [.. Enumerable.Range(0, features).Select(i => (i / size * size) + sorted[i % size])];
    }

    private Matrix64 Miss(string module, Matrix64 weight)
    {
        var stored = Own(module, "miss_block");
        if (config["init_weights"]?.ToString() != "bat")
        {
            var block = stored.Matrix;
            return new Matrix64(weight.Rows, weight.Columns, (i, j) => weight[i, j] + block[j % block.Rows, i % block.Columns]);
        }

        // Each block of rows has a matrix of its own, which every block of its columns takes.
        var size = (int)stored.Shape[1];
        return new Matrix64(weight.Rows, weight.Columns, (i, j) =>
        {
            var (own, column) = (stored.At(i / size), j / size * size);
            return weight[i, j] + own[i % size, j % size] + Enumerable.Range(0, size).Sum(k => weight[i, column + k] * own[k, j % size]);
        });
    }

    // I - 2 u uᵀ for each column, the first leftmost; with apply_GS of columns made orthogonal.
    private Matrix64 Reflections(Matrix64 vectors)
    {
        var product = Matrix64.Identity(vectors.Rows);
        var units = new List<double[]>();
        for (var r = 0; r < vectors.Columns; r++)
        {
            double[] own = [.. Enumerable.Range(0, vectors.Rows).Select(i => vectors[i, r])];
            foreach (var unit in Flag("apply_GS") ? units : [])
            {
                var along = own.Zip(unit, static (a, b) => a * b).Sum();
                own = [.. own.Zip(unit, (a, b) => a - (along * b))];
            }

            var norm = Math.Sqrt(own.Sum(static v => v * v));
            own = [.. own.Select(v => v / norm)];
            units.Add(own);
            product *= new Matrix64(own.Length, own.Length, (i, j) => (i == j ? 1 : 0) - (2 * own[i] * own[j]));
        }

        return product;
    }

    private Matrix64 Delora(string module)
    {
        var (a, b, norms) = (Own2(module, "delora_A"), Own2(module, "delora_B"), Own(module, "delora_w_norm").Values);
        var strength = Own(module, "delora_lambda").Values[0] / a.Rows;
        var scales = Diagonal([.. Enumerable.Range(0, a.Rows).Select(k => strength / (Math.Max(1e-4, a.RowNorm(k)) * Math.Max(1e-4, b.ColumnNorm(k))))]);
        return b * scales * a * Diagonal(norms);
    }

    // peft/tuners/randlora/layer.py, get_scaled_bases: A is flattened over ranks and then bases, B over bases and then ranks.
    private Matrix64 Randlora(string module, Matrix64 weight)
    {
        var (a, b, lambda, gamma) = (file["base_model.randlora_A"], file["base_model.randlora_B"], Own2(module, "randlora_lambda"), Own2(module, "randlora_gamma"));
        var (least, most, rank, bases) = (Math.Min(weight.Rows, weight.Columns), Math.Max(weight.Rows, weight.Columns), lambda.Rows, lambda.Columns);
        var first = new Matrix64(rank * bases, least, (i, j) => lambda[i / bases, i % bases] * a.Values[(i / bases * a.Shape[2]) + j] * gamma[i % bases, j]);
        var second = new Matrix64(most, bases * rank, (i, j) => b.Values[(i * b.Shape[1] * b.Shape[2]) + (j / rank * b.Shape[2]) + (j % rank)]);
        var update = Number("randlora_alpha") / Number("r") * (second * first);
        return weight.Columns == least ? update : update.Turned;
    }

    private static Matrix64 Circulant(Tensor64 kernels, int inputs)
    {
        var size = (int)kernels.Shape[2];
        return new Matrix64((int)kernels.Shape[0] * size, inputs, (i, j) =>
            kernels.Values[(((i / size * (int)kernels.Shape[1]) + (j / size)) * size) + (((j % size) - (i % size) + size) % size)] / inputs);
    }

    private static Matrix64 Entries(Matrix64 like, double[] values, Func<int, (int Row, int Column)> place)
    {
        var made = new Matrix64(like.Rows, like.Columns);
        for (var e = 0; e < values.Length; e++)
        {
            var (row, column) = place(e);
            made[row, column] = values[e];
        }

        return made;
    }

    // torch.randperm of all entries from the seed, of which the first are taken.
    private Func<int, (int Row, int Column)> Drawn(Matrix64 weight)
    {
        using var scope = torch.NewDisposeScope();
        using var random = new torch.Generator((ulong)Whole("random_loc_seed"));
        var all = torch.randperm(weight.Rows * weight.Columns, generator: random);
        long[] places = [.. Enumerable.Range(0, weight.Rows * weight.Columns).Select(i => all.select(0, i).ToInt64())];
        return e => ((int)places[e] / weight.Columns, (int)places[e] % weight.Columns);
    }

    // W block (m, n) gets B_m[n-th part of the ranks]ᵀ A_n[.., m-th part]ᵀ.
    private Matrix64 Gralora(string module, Matrix64 weight)
    {
        var (a, b) = (Own(module, "gralora_A"), Own(module, "gralora_B"));
        var (blocks, part) = (Whole("gralora_k"), Whole("r") / Whole("gralora_k"));
        var (rows, columns) = (weight.Rows / blocks, weight.Columns / blocks);
        var made = new Matrix64(weight.Rows, weight.Columns, (i, j) =>
        {
            var (m, n) = (i / rows, j / columns);
            return Enumerable.Range(0, part).Sum(k => b.At(m)[(n * part) + k, i % rows] * a.At(n)[j % columns, (m * part) + k]);
        });
        var hybrid = Whole("hybrid_r");
        return Number("alpha") / (Whole("r") + hybrid) * (hybrid == 0 ? made : made + (Own2(module, "gralora_B_general.weight") * Own2(module, "gralora_A_general.weight")));
    }

    private static Matrix64 Fourier(Matrix64 spectrum)
    {
        var found = Enumerable.Range(0, spectrum.Values.Length).Where(i => spectrum.Values[i] != 0).Select(i => (Row: i / spectrum.Columns, Column: i % spectrum.Columns)).ToList();
        return new Matrix64(spectrum.Rows, spectrum.Columns, (i, j) => found.Sum(f =>
            spectrum[f.Row, f.Column] * Complex.Exp(2 * Math.PI * Complex.ImaginaryOne * (((double)f.Row * i / spectrum.Rows) + ((double)f.Column * j / spectrum.Columns))).Real) / spectrum.Values.Length);
    }

    private Matrix64 Wavelet(Matrix64 weight, double[] values, Func<int, (int Row, int Column)> place)
    {
        if (!Flag("use_idwt"))
        {
            return Entries(weight, values, place);
        }

        // Haar and Daubechies' second wavelet, whose filters have closed forms.
        var root = Math.Sqrt(3);
        double[] low = config["wavelet_family"]!.ToString() is "db1" or "haar"
            ? [Math.Sqrt(0.5), Math.Sqrt(0.5)]
            : [.. new[] { 1 + root, 3 + root, 3 - root, 1 - root }.Select(static v => v / (4 * Math.Sqrt(2)))];
        double[] high = [.. low.Select((_, i) => (i % 2 == 0 ? 1 : -1) * low[low.Length - 1 - i])];
        var lost = low.Length - 2;
        int Even(int size) => size + lost + ((size + lost) % 2);
        var (rows, columns) = (Even(weight.Rows), Even(weight.Columns));
        var bands = Entries(new Matrix64(rows, columns), values, e => (place(e).Row + ((rows - weight.Rows) / 2), place(e).Column + ((columns - weight.Columns) / 2)));
        // The top right quarter has what is high-pass along the rows, the bottom left one along the columns.
        var (half, middle) = (rows / 2, columns / 2);
        var quarters = new Matrix64(rows, columns, (i, j) => (i < half) == (j < middle) ? bands[i, j] : i < half ? bands[i + half, j - middle] : bands[i - half, j + middle]);
        var made = Synthesis(rows) * quarters * Synthesis(columns).Turned;
        var (top, left) = ((made.Rows - weight.Rows) / 2, (made.Columns - weight.Columns) / 2);
        return new Matrix64(weight.Rows, weight.Columns, (i, j) => made[top + i, left + j]);

        // Column k of the first half puts the low-pass filter at 2 k, of the second the high-pass one; what is before and after the middle is cut.
        Matrix64 Synthesis(int size) => new(size - lost, size, (i, k) =>
        {
            var (filter, at) = (k < size / 2 ? low : high, i + lost - (2 * (k % (size / 2))));
            return at >= 0 && at < filter.Length ? filter[at] : 0;
        });
    }

    // Outputs in groups, each value of a group's first half with its pair of the second.
    private Matrix64 Road(string module, Matrix64 weight)
    {
        var (theta, alpha, size) = (Own(module, "road_theta").Values, Own(module, "road_alpha").Values, Whole("group_size"));
        return new Matrix64(weight.Rows, weight.Columns, (i, j) =>
        {
            var (group, place, isFirst) = (i / size, i % size, i % size < size / 2);
            var pair = (group * size) + (isFirst ? place + (size / 2) : place - (size / 2));
            var (own, other) = config["variant"]!.ToString() switch
            {
                "road_1" => ((group * size / 2) + (place % (size / 2)), (group * size / 2) + (place % (size / 2))),
                "road_2" => (i, i),
                _ => ((2 * group * size) + place, (((2 * group) + 1) * size) + place),
            };
            return (weight[i, j] * alpha[own] * Math.Cos(theta[own])) + ((isFirst ? -1 : 1) * weight[pair, j] * alpha[other] * Math.Sin(theta[other]));
        });
    }

    // Each place is a mixture of its best vectors: A [r, in], B [out, r].
    private Matrix64 Mixed(string module, string name, bool isB)
    {
        var bank = file["base_model.vblora_vector_bank"].Matrix;
        var (length, best) = (bank.Columns, Whole("topk"));
        var shares = Has(module, name) ? Shares(Own(module, name), best) : Saved(Own(module, $"{name}_topk_indices"), Own(module, $"{name}_topk_weights"), best);
        var (first, second) = Has(module, name) ? ((int)Own(module, name).Shape[0], (int)Own(module, name).Shape[1]) : ((int)Own(module, $"{name}_topk_indices").Shape[0], (int)Own(module, $"{name}_topk_indices").Shape[1]);
        double Value(int x, int y, int at) => shares[(x * second) + y].Sum(s => s.Share * bank[s.Vector, at]);
        return isB ? new Matrix64(first * length, second, (i, j) => Value(i / length, j, i % length)) : new Matrix64(first, second * length, (i, j) => Value(i, j / length, j % length));
    }

    private static List<List<(int Vector, double Share)>> Shares(Tensor64 logits, int best)
    {
        var count = (int)logits.Shape[2];
        return [.. Enumerable.Range(0, logits.Values.Length / count).Select(p =>
        {
            var chosen = Enumerable.Range(0, count).Select(v => (Vector: v, Logit: logits.Values[(p * count) + v])).OrderByDescending(static v => v.Logit).Take(best).ToList();
            var sum = chosen.Sum(static v => Math.Exp(v.Logit));
            return chosen.ConvertAll(v => (v.Vector, Math.Exp(v.Logit) / sum));
        })];
    }

    private static List<List<(int Vector, double Share)>> Saved(Tensor64 vectors, Tensor64 shares, int best) => [.. Enumerable.Range(0, vectors.Values.Length / best).Select(p =>
    {
        double[] own = [.. Enumerable.Range(0, best - 1).Select(k => shares.Values[(p * (best - 1)) + k])];
        return Enumerable.Range(0, best).Select(k => ((int)vectors.Values[(p * best) + k], k < best - 1 ? own[k] : 1 - own.Sum())).ToList();
    })];
}
