using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>Converts configs of Axolotl, LLaMA-Factory, torchtune, TRL and mlx-lm to this program's config.</summary>
internal sealed class ConfigConverter
{
    private readonly ForeignTool _tool;
    private readonly YamlMappingNode _root;
    private readonly ConvertedConfig _result;
    private readonly string _folder;

    private ConfigConverter(ForeignTool tool, YamlMappingNode root, string file)
    {
        (_tool, _root) = (tool, root);
        _folder = Path.GetDirectoryName(Path.GetFullPath(file))!;
        _result = new ConvertedConfig(tool.Name, file);
    }

    /// <summary>The programs whose configs can be converted.</summary>
    public static IReadOnlyList<string> Tools => [.. ForeignTool.All.Select(static t => t.Name)];

    /// <summary>Converts a file.</summary>
    /// <param name="file">Path of the other program's config.</param>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="ConfigException">The file is not YAML, is already a config of this program, or is of an unknown
    /// program.</exception>
    public static ConvertedConfig Convert(string file)
    {
        if (!File.Exists(file))
        {
            throw new FileNotFoundException($"{file}: the file does not exist.", file);
        }

        var root = YamlSource.Read(file, File.ReadAllText(file)).Root;
        var tool = ForeignTool.Of(root) ?? throw new ConfigException([new ConfigProblem(file, "", NotKnown(root))]);
        return new ConfigConverter(tool, root, file).Run();
    }

    private static string NotKnown(YamlMappingNode root) => root.Get("model") is YamlMappingNode || root.Get("data") is YamlMappingNode || root.Get("training") is YamlMappingNode
        ? "this is already a config of this program; `owt validate` checks it."
        : $"this is not a config of a known program; supported are {string.Join(", ", Tools)}.";

    private ConvertedConfig Run()
    {
        var leaves = Leaves(_root, "").ToList();
        var taken = ForeignParts.Take(_tool.Name, _root, _folder, _result);
        foreach (var (key, value) in leaves.Where(l => !taken.Contains(l.Key) && !taken.Contains(l.Key.Split('.')[0] + ".*")))
        {
            Add(key, value);
        }

        Complete();
        Check();
        return _result;
    }

    private void Add(string key, YamlNode value)
    {
        if (value is YamlScalarNode && value.Text() is null)
        {
            return;
        }

        var name = Name(key);
        if (name?.Ours is not { } ours)
        {
            // What is said of a section is true of what stands in it.
            _result.Leave(key, name?.None ?? Name(key.Split('.')[0])?.None ?? "this program has no such setting.");
            return;
        }

        // A value found earlier, such as the learning rate of the optimizer's own section, takes precedence.
        var changed = ForeignValue.Change(name, Interpolated(value), RankOf());
        ours = changed.Ours ?? ours;
        if (changed.Reason is { } reason)
        {
            _result.Leave(key, reason);
        }
        else if (changed.Text is { } text && Position(ours) is { } number)
        {
            Number(ours[..ours.LastIndexOf('.')], number, text, key);
        }
        else if (changed.Text is { } written && !(_result.Has(ours) && IsDefault(ours, written)))
        {
            _result.Set(ours, Literal(ours, written), key);
        }
    }

    // The tool's own table first, then the names common to all tools, matched by the last part of a nested name.
    private ForeignName? Name(string key)
    {
        if (_tool.None.TryGetValue(key, out var none))
        {
            return new ForeignName(key, null, null, new Dictionary<string, string?>(), none);
        }

        var last = key[(key.LastIndexOf('.') + 1)..];
        var general = ForeignNames.Find(last);
        if (_tool.Keys.TryGetValue(key, out var ours))
        {
            // The value is converted as for another name of the same setting.
            var like = general?.Ours == ours ? general : ForeignNames.All.FirstOrDefault(n => n.Ours == ours && (n.Values.Count > 0 || n.Change is not null) && n.Change is not "not");
            return ours is null ? general is { Ours: null } ? general : null : new ForeignName(key, ours, last == "scale" ? "scale" : like?.Change is "scale" ? null : like?.Change, like?.Values ?? new Dictionary<string, string?>(), null);
        }

        if (general is not null && (general.Ours is null || !key.Contains('.', StringComparison.Ordinal)))
        {
            return general;
        }

        var same = key.Contains('.', StringComparison.Ordinal) ? null : UnknownSetting.All.FirstOrDefault(n => n == key || n.EndsWith("." + key, StringComparison.Ordinal));
        if (same is not null)
        {
            var like = ForeignNames.All.FirstOrDefault(n => n.Ours == same && n.Values.Count > 2);
            return new ForeignName(key, same, key is "warmup_steps" ? "warmup" : key is "max_steps" ? "positive" : null, like?.Values ?? new Dictionary<string, string?>(), null);
        }

        return _tool.None.TryGetValue(key.Split('.')[0], out none) ? new ForeignName(key, null, null, new Dictionary<string, string?>(), none) : general;
    }

    private double? RankOf()
    {
        var given = _root.Get("lora_r").Text() ?? _root.Get("lora_rank").Text() ?? _root.Get("lora_parameters")?.Get("rank").Text() ?? _result.Value("adapter.r") ?? _tool.AdapterDefaults.GetValueOrDefault("adapter.r");
        return double.TryParse(given, System.Globalization.CultureInfo.InvariantCulture, out var rank) ? rank : null;
    }

    // In torchtune's files ${output_dir}/logs refers to another value of the same file.
    private YamlNode Interpolated(YamlNode value)
    {
        if (value is not YamlScalarNode { Value: { } text } scalar || !text.Contains("${", StringComparison.Ordinal))
        {
            return value;
        }

        foreach (var (key, node) in Leaves(_root, ""))
        {
            text = node.Text() is { } own && own != text ? text.Replace("${" + key + "}", own, StringComparison.Ordinal) : text;
        }

        return new YamlScalarNode(text) { Style = scalar.Style };
    }

    private static int? Position(string ours) => ours is "training.betas.0" ? 0 : ours is "training.betas.1" ? 1 : null;

    private void Number(string list, int index, string text, string key)
    {
        var numbers = (_result.Value(list) ?? "[0.9, 0.999]").Trim('[', ']').Split(',', StringSplitOptions.TrimEntries);
        numbers[index] = text;
        _result.Set(list, $"[{string.Join(", ", numbers)}]", key);
    }

    private static bool IsDefault(string ours, string value) => ours == "adapter.type" || value is "false" or "none";

    private static string Literal(string ours, string value)
    {
        var setting = ForeignParts.Setting(ours);
        return setting?.Property.PropertyType == typeof(string) ? ForeignValue.Text(value.Trim('"')) : value;
    }

    // Defaults of the other program for settings that its file omits.
    private void Complete()
    {
        bool HasSection(string prefix) => _result.Settings.Keys.Any(k => k.StartsWith(prefix, StringComparison.Ordinal));
        var (hasAdapter, quantizes) = (HasSection("adapter."), HasSection("quantization."));
        foreach (var (key, value) in _tool.Defaults.Where(d => quantizes || !d.Key.StartsWith("quantization.", StringComparison.Ordinal)).Concat(hasAdapter ? _tool.AdapterDefaults : []))
        {
            var other = key switch
            {
                "training.warmup_steps" => "training.warmup_ratio",
                "training.warmup_ratio" => "training.warmup_steps",
                "training.epochs" => "training.max_steps",
                _ => key,
            };
            if (!_result.Has(key) && !_result.Has(other))
            {
                var text = value!.EndsWith(" x r", StringComparison.Ordinal) && RankOf() is { } rank
                    ? (double.Parse(value[..^4], System.Globalization.CultureInfo.InvariantCulture) * rank).ToString("R", System.Globalization.CultureInfo.InvariantCulture)
                    : value;
                _result.Set(key, text, $"default of {_tool.Name}");
            }
        }

        if (!_result.Has("output_dir"))
        {
            _result.Set("output_dir", "runs/converted", "");
        }

        if (hasAdapter && !_result.Has("adapter.type"))
        {
            _result.Set("adapter.type", "lora", "");
        }
    }

    // Values that our settings do not accept are listed as not converted, with the reason.
    private void Check()
    {
        for (var attempt = 0; attempt < 10; attempt++)
        {
            try
            {
                _ = RunConfigFile.Parse(_result.File, _result.Write(), []);
                return;
            }
            catch (ConfigException e)
            {
                foreach (var problem in e.Problems)
                {
                    _result.Withdraw(problem.Key, problem.Message);
                }

                if (e.Problems.All(static p => p.Message.StartsWith("this setting is required", StringComparison.Ordinal) || p.Key is "data.train"))
                {
                    e.Problems.ToList().ForEach(p => _result.Leave(p.Key, $"not set in the {_result.Tool} file, but required here. {p.Message}"));
                    return;
                }
            }
        }
    }

    private static IEnumerable<(string Key, YamlNode Value)> Leaves(YamlMappingNode map, string prefix)
    {
        foreach (var (name, value) in map.Children)
        {
            var key = prefix + ((name as YamlScalarNode)?.Value ?? "");
            foreach (var leaf in value is YamlMappingNode inner ? Leaves(inner, key + ".") : [(key, value)])
            {
                yield return leaf;
            }
        }
    }
}
