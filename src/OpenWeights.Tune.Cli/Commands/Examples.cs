using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Examples at the end of each command's help.</summary>
internal static class Examples
{
    private static readonly Dictionary<string, (string Line, string What)[]> s_examples = new()
    {
        [""] =
        [
            ("owt train configs/quickstart.yaml", "train as described in a YAML file"),
            ("owt chat --model runs/mine", "chat with the result of a run"),
            ("owt train --help", "help of a command, with examples"),
        ],
        ["train"] =
        [
            ("owt train mine.yaml --dry-run", "show the plan, the memory and some rows, without training"),
            ("owt train mine.yaml training.max_steps=20 output_dir=runs/try", "override settings of the file"),
            ("owt train mine.yaml --resume", "continue after Ctrl-C or a crash"),
        ],
        ["launch"] =
        [
            ("owt launch -- train mine.yaml", "one rank for each NVIDIA GPU of this machine"),
            ("owt launch --ranks 2 -- train mine.yaml --resume", "two ranks, which share the cores where there is no GPU"),
            ("owt launch --ranks 4 --nnodes 2 --node-rank 0 --master node0:29500 -- train mine.yaml", "on the first of two machines; with --node-rank 1 on the other"),
        ],
        ["validate"] =
        [
            ("owt validate mine.yaml", "list all problems, with line, column and suggestions"),
            ("owt validate mine.yaml adapter.r=8 --json", "override a setting; JSON for scripts"),
            ("owt validate --schema > train.schema.json", "for editors"),
        ],
        ["convert"] =
        [
            ("owt convert axolotl.yml", "print the converted file"),
            ("owt convert llamafactory.yaml --output mine.yaml", "write it to a file; settings without a counterpart are listed"),
        ],
        ["estimate"] =
        [
            ("owt estimate mine.yaml", "memory of a run, by part"),
            ("owt estimate mine.yaml --ranks 4 --device-memory 24GB", "each of four GPUs, for each kind of parallel.shard"),
            ("owt estimate mine.yaml training.micro_batch_size=1 --json", "override a setting; JSON for scripts"),
        ],
        ["data"] =
        [
            ("owt data preview mine.yaml", "rows as the model will see them"),
            ("owt data preview mine.yaml --rows 20 data.packing=false", "more rows, not packed"),
        ],
        ["data preview"] =
        [
            ("owt data preview mine.yaml", "rows as the model will see them"),
            ("owt data preview mine.yaml --rows 20 data.packing=false", "more rows, not packed"),
        ],
        ["generate"] =
        [
            ("owt generate --model runs/mine --message \"What is our return policy?\"", "answer a question, through the chat template"),
            ("owt generate --model runs/mine --input questions.jsonl --output answers.jsonl --batch-size 16", "answer the rows of a file; --resume continues"),
            ("owt generate --model SmolLM2-135M-Instruct --prompt \"Once upon a time\"", "continue a text as it is"),
        ],
        ["chat"] =
        [
            ("owt chat --model runs/mine", "chat with the result of a run"),
            ("owt chat --model SmolLM2-135M-Instruct --adapter old=runs/a --adapter new=runs/b", "/adapter NAME switches between them"),
            ("owt chat --model mine.gguf --system \"Answer in one sentence.\"", "a GGUF file, with a system message"),
        ],
        ["serve"] =
        [
            ("owt serve --model runs/mine", "the base and the run's adapter, at http://127.0.0.1:8080"),
            ("owt serve --model SmolLM2-135M-Instruct --adapter old=runs/a --adapter new=runs/b --port 9000", "requests name the base, old or new"),
            ("owt serve --model mine.gguf --host 0.0.0.0 --api-key-file keys.txt", "for other machines, with a key"),
        ],
        ["score"] =
        [
            ("owt score --model SmolLM2-135M-Instruct --text \"The sky is blue.\"", "the log-probability of each token"),
            ("owt score --model SmolLM2-135M-Instruct --adapter runs/mine --input texts.jsonl --logits logits.safetensors", "the logits too"),
        ],
        ["evaluate"] =
        [
            ("owt evaluate --model SmolLM2-135M-Instruct --adapter runs/mine --data eval.jsonl", "loss, perplexity and token accuracy"),
            ("owt evaluate --model runs/mine --data eval.jsonl --generate --metrics exact_match,rougeL --samples answers.jsonl", "generated answers, the base model's beside them"),
            ("owt evaluate --model runs/mine --tasks tasks.yaml", "multiple choice and other tasks, with standard errors"),
        ],
        ["tokenize"] =
        [
            ("owt tokenize --model SmolLM2-135M-Instruct --text \"Hello there\"", "the tokens of a text"),
            ("owt tokenize --model tokenizer.json --input texts.json --offsets", "texts.json is a list, [\"one\", \"two\"]; also prints token offsets"),
        ],
        ["render"] =
        [
            ("owt render --model SmolLM2-135M-Instruct --input cases.json", "cases.json is a list: [{\"name\": \"a\", \"messages\": [...]}]"),
            ("owt render --template chat.jinja --input cases.json --bos \"<s>\" --eos \"</s>\"", "with a template file"),
        ],
        ["export"] =
        [
            ("owt export --format merged --model SmolLM2-135M-Instruct --adapter runs/mine --output mine-merged", "a model folder"),
            ("owt export --format gguf --dtype q4_k_m --model SmolLM2-135M-Instruct --adapter runs/mine --output mine.gguf", "a file for llama.cpp"),
            ("owt export --format merged --model base --adapter a=0.7 --adapter b=0.3 --output mixed", "two adapters, summed"),
        ],
        ["inspect"] =
        [
            ("owt inspect runs/mine", "a run"),
            ("owt inspect SmolLM2-135M-Instruct --json", "a model, with all its tensors; JSON"),
        ],
        ["download"] =
        [
            ("owt download HuggingFaceTB/SmolLM2-135M-Instruct", "prints the folder"),
            ("owt download HuggingFaceTB/SmolLM2-135M-Instruct --revision main --include \"*.json\"", "some files of a revision"),
        ],
        ["push"] =
        [
            ("owt push runs/mine --repo me/mine", "show what would be uploaded: files and model card"),
            ("owt push mine.gguf --repo me/mine-gguf --yes", "upload; HF_TOKEN is a token that may write"),
        ],
        ["init"] =
        [
            ("owt init --output tiny", "a small Llama with random weights"),
            ("owt init --family qwen3 --hidden-size 256 --layers 6 --vocab-size 4096 --tokenizer-data rows.jsonl --output mine", "with a tokenizer trained on texts"),
        ],
        ["bench"] =
        [
            ("owt bench train --mode lora --seq-len 512 --batch-size 4", "measure training"),
            ("owt bench generate --model SmolLM2-135M-Instruct", "measure generation"),
        ],
        ["bench train"] =
        [
            ("owt bench train --mode lora --rank 16 --seq-len 512 --batch-size 4", "an adapter"),
            ("owt bench train --mode full --dtype bfloat16 --checkpointing", "all weights"),
        ],
        ["bench serve"] =
        [
            ("owt bench serve --url http://127.0.0.1:8080 --clients 1 4 16", "a running server, of owt or another"),
            ("owt bench serve --url http://127.0.0.1:8080 --rate 2 --requests 40", "2 requests per second, whether earlier ones are answered or not"),
        ],
        ["bench generate"] =
        [
            ("owt bench generate --model SmolLM2-135M-Instruct --dtype bfloat16", "a model"),
            ("owt bench generate --batch-size 1 8 --new-tokens 64", "random weights"),
        ],
        ["bench load"] =
        [
            ("owt bench load --megabytes 1024", "a checkpoint of a gigabyte"),
            ("owt bench load --stored bfloat16 --dtype float32 --folder /tmp/bench-load", "another dtype and folder"),
        ],
        ["bench data"] =
        [
            ("owt bench data --tokenizer SmolLM2-135M-Instruct --input rows.jsonl", "from a file to token rows"),
            ("owt bench data --tokenizer tokenizer.json --input texts.txt --format text", "plain text"),
        ],
        ["recipes"] =
        [
            ("owt recipes list", "configs for common models, with the memory that each needs"),
            ("owt recipes copy qwen3-0.6b-lora --output mine.yaml", "a file of your own to change and train"),
        ],
        ["recipes list"] =
        [
            ("owt recipes list", "the name of each, what it is for, and its memory"),
            ("owt recipes list --json", "the same for scripts"),
        ],
        ["recipes show"] =
        [
            ("owt recipes show qwen3-0.6b-lora", "print the config"),
            ("owt recipes show llama-3.1-8b-qlora", "one for a larger model, in four bits"),
        ],
        ["recipes copy"] =
        [
            ("owt recipes copy qwen3-0.6b-lora --output mine.yaml", "a file of your own to change and train"),
            ("owt recipes copy qwen3-0.6b-lora", "the same in qwen3-0.6b-lora.yaml"),
        ],
        ["completion"] =
        [
            ("owt completion bash", "for the shell at hand: eval \"$(owt completion bash)\""),
            ("owt completion fish", "for every shell: into ~/.config/fish/completions/owt.fish"),
        ],
        ["doctor"] =
        [
            ("owt doctor", "which torch is used, and how fast it is"),
            ("owt doctor --json", "the same for scripts"),
        ],
    };

    /// <summary>Examples of a command, by its name after owt.</summary>
    internal static IReadOnlyList<(string Line, string What)> Of(string command) => s_examples.GetValueOrDefault(command) ?? [];

    /// <summary>Adds the examples to the help.</summary>
    internal static void AddTo(RootCommand root)
    {
        if (root.Options.OfType<HelpOption>().FirstOrDefault() is { Action: SynchronousCommandLineAction usual } help)
        {
            help.Action = new Help(usual);
        }
    }

    internal sealed class Help(SynchronousCommandLineAction usual) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            var code = usual.Invoke(parseResult);
            var output = parseResult.InvocationConfiguration.Output;
            var examples = Of(Name(parseResult.CommandResult.Command));
            output.WriteLine("Examples:");
            foreach (var (line, what) in examples)
            {
                output.WriteLine($"  {line}");
                output.WriteLine($"      {what}");
            }

            return code;
        }
    }

    private static string Name(Command command) =>
        command is RootCommand ? "" : string.Join(' ', new[] { Name(command.Parents.OfType<Command>().First()), command.Name }.Where(static n => n.Length > 0));
}
