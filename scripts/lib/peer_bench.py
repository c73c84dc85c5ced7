"""A training step of transformers + PEFT, measured as `owt bench train` measures ours: same options, same JSON."""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in [("hidden-size", 512), ("layers", 8), ("heads", 8), ("kv-heads", 4), ("intermediate-size", 1376),
                        ("vocab-size", 32000), ("seq-len", 512), ("batch-size", 4), ("rank", 16), ("steps", 8)]:
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--mode", choices=["lora", "full"], default="lora")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def build(o, device):
    config = LlamaConfig(
        hidden_size=o.hidden_size, num_hidden_layers=o.layers, num_attention_heads=o.heads, num_key_value_heads=o.kv_heads,
        intermediate_size=o.intermediate_size, vocab_size=o.vocab_size, max_position_embeddings=o.seq_len,
        tie_word_embeddings=False, use_cache=False)
    if hasattr(torch.nn.functional, "scaled_dot_product_attention"):
        config._attn_implementation = "sdpa"
    model = LlamaForCausalLM(config).to(device=device, dtype=getattr(torch, o.dtype))
    if o.mode == "lora":
        linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
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
        ids = torch.randint(o.vocab_size, (o.batch_size, o.seq_len)).to(device)
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
