"""A training step of transformers + PEFT, measured as `owt bench train` measures ours: same options, same JSON.

On Linux the peer is given its best where that is installed: an OpenBLAS whose threads are OpenMP's (libopenblas0-openmp
for a distribution's torch) and an allocator that keeps its pages (libjemalloc2). With --as-installed it runs as it comes.
"""

import argparse
import glob
import importlib.util
import json
import os
import resource
import statistics
import sys
import time


def give_its_best():
    """Starts again with what must be there before torch is; each of the two is worth up to a factor of two on a processor."""
    torch = importlib.util.find_spec("torch")
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ or not torch:
        return
    found = glob.glob("/usr/lib/*/libjemalloc.so.2") + glob.glob("/usr/lib64/libjemalloc.so.2")
    if torch.origin.startswith("/usr/lib/python3"):  # a distribution's, which takes the system's BLAS
        found += glob.glob("/usr/lib/*/openblas-openmp/libopenblas.so.0")
        os.environ.pop("OPENBLAS_CORETYPE", None)
    if found:
        os.environ["LD_PRELOAD"] = ":".join(found)
        os.environ.setdefault("MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,oversize_threshold:0")
        os.execv(sys.executable, [sys.executable, *sys.argv])


if "--as-installed" not in sys.argv and not any(word.startswith("cuda") for word in sys.argv):
    give_its_best()
try:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
except ImportError as e:
    sys.exit(f"error: {sys.executable} cannot run the peer: {e}; install torch, transformers and peft for it")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in [("hidden-size", 512), ("layers", 8), ("heads", 8), ("kv-heads", 4), ("intermediate-size", 1376),
                        ("vocab-size", 32000), ("seq-len", 512), ("batch-size", 4), ("rank", 16), ("steps", 8)]:
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--mode", choices=["lora", "full"], default="lora")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--quantization", choices=["none", "nf4", "int8"], default="none", help="linear layers of the base by bitsandbytes")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--config", help="the config.json of a model of another family; the sizes of the model are its")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--as-installed", action="store_true")
    return parser.parse_args()


def new_model(o):
    if o.config:
        config = AutoConfig.from_pretrained(o.config)
        config.use_cache = False
        return AutoModelForCausalLM.from_config(config)
    config = LlamaConfig(
        hidden_size=o.hidden_size, num_hidden_layers=o.layers, num_attention_heads=o.heads, num_key_value_heads=o.kv_heads,
        intermediate_size=o.intermediate_size, vocab_size=o.vocab_size, max_position_embeddings=o.seq_len,
        tie_word_embeddings=False, use_cache=False)
    if hasattr(torch.nn.functional, "scaled_dot_product_attention"):
        config._attn_implementation = "sdpa"
    return LlamaForCausalLM(config)


def quantized(model, o):
    """The linear layers other than the head, as transformers replaces them when it loads a model in four or eight bits."""
    try:
        import bitsandbytes as bnb
    except ImportError as e:
        sys.exit(f"error: {sys.executable} cannot quantize the peer: {e}; install bitsandbytes for it")
    for name, parent in [(n, m) for n, m in model.named_modules()]:
        for child, layer in list(parent.named_children()):
            if not isinstance(layer, torch.nn.Linear) or child == "lm_head":
                continue
            if o.quantization == "nf4":
                new = bnb.nn.Linear4bit(layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=getattr(torch, o.dtype),
                                        compress_statistics=True, quant_type="nf4")
                new.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4")
            else:
                new = bnb.nn.Linear8bitLt(layer.in_features, layer.out_features, bias=layer.bias is not None, has_fp16_weights=False)
                new.weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
            new.bias = layer.bias
            setattr(parent, child, new)
    return model


def build(o, device):
    model = new_model(o).to(dtype=getattr(torch, o.dtype))
    model = (model if o.quantization == "none" else quantized(model, o)).to(device)
    if o.mode == "lora":
        linears = "all-linear" if o.config else ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=o.rank, lora_alpha=2 * o.rank, target_modules=linears, task_type="CAUSAL_LM"))
    if o.checkpointing:
        if o.mode == "lora":
            model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    model.train()
    return model


def main():
    o = options()
    torch.manual_seed(42)
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if o.device == "auto" else o.device)
    model = build(o, device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    seconds, loss = [], None
    for step in range(o.steps + 2):
        ids = torch.randint(model.config.vocab_size, (o.batch_size, o.seq_len)).to(device)
        started = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if step >= 2:
            seconds.append(time.perf_counter() - started)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    median = statistics.median(seconds)
    print(json.dumps({
        "tokens_per_second": round(o.batch_size * o.seq_len / median, 1), "peak_memory_bytes": peak,
        "loss": loss.item(), "step_seconds": median}))


if __name__ == "__main__":
    main()
