"""LTX-Video as the graphs that the worker runs; there is no ready exporter for it.

    python ltx_graphs.py PIPELINE OUT [--dtype float16]

PIPELINE is a folder (or repository) of LTXPipeline or LTXConditionPipeline in diffusers' layout. What differs from diffusers' classes:

text_encoder  input_ids, attention_mask -> last_hidden_state. LTXPipeline gives no mask (ones), LTXConditionPipeline gives one.
transformer   the rotary embedding is an input, rope_cos and rope_sin [1, tokens, width / 2] (neighbours share an angle, the graph repeats
              them), so that no part of the graph depends on frames, height and width; timestep [batch, tokens] or [batch, 1], 0..1000.
vae_encoder   sample [1, 3, frames, height, width] -> latent_parameters [1, 2 * channels, ...], means and logarithms of variances of the
              *normalised* latents: the per-channel statistics are in the graph.
vae_decoder   normalised latents -> sample. With timestep conditioning (0.9.1 on) also noise, decode_noise_scale [1], timestep [1]: the
              graph undoes the normalisation first and mixes the noise in after, as the pipelines do.
"""

import argparse
import shutil
from pathlib import Path

import onnx_ir as ir
import torch
from diffusers import AutoencoderKLLTXVideo, LTXConditionPipeline, LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx import apply_rotary_emb
from torch.export import Dim
from transformers import T5EncoderModel

OPSET = 18
# Above this a graph's weights go into a second file: a protobuf ends at 2 GB.
MAX_INLINE_BYTES = 1_500_000_000


class TextEncoder(torch.nn.Module):
    def __init__(self, model: T5EncoderModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask=attention_mask)[0].float()


class GivenRope(torch.nn.Module):
    """Stands where the transformer computes its rotary embedding and hands out the one that it was given."""

    tables = None

    def forward(self, *_):
        return self.tables


class Attention:
    """diffusers' LTXVideoAttnProcessor, but

    - between the tokens it is one MultiHeadAttention of onnxruntime's: flash attention, so that memory does not grow with the square of the
      clip (and as float16 on CUDA it is several times as fast);
    - the mask of the text broadcasts over heads and queries instead of being repeated for them: the exporter cannot follow that repetition
      over a symbolic batch, and the graph is smaller without it.
    """

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(source)), attn.to_v(source)
        if image_rotary_emb is not None:
            query, key = apply_rotary_emb(query, image_rotary_emb), apply_rotary_emb(key, image_rotary_emb)
        mix = self.fused if attention_mask is None else self.masked
        return attn.to_out[0](mix(query, key, value, attn.heads, attention_mask))

    @staticmethod
    def fused(query, key, value, heads, _mask):
        return torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query, key, value),
            attrs={"num_heads": heads},
            dtype=query.dtype,
            shape=query.shape,
            version=1,
        )

    @staticmethod
    def masked(query, key, value, heads, mask):
        query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask.unsqueeze(1))
        return mixed.transpose(1, 2).flatten(2)


class Transformer(torch.nn.Module):
    def __init__(self, model: LTXVideoTransformer3DModel):
        super().__init__()
        self.model = model
        self.model.rope = GivenRope()
        for block in model.transformer_blocks:
            block.attn1.set_processor(Attention())
            block.attn2.set_processor(Attention())
        self.dtype = next(model.parameters()).dtype

    def forward(self, hidden_states, encoder_hidden_states, encoder_attention_mask, timestep, rope_cos, rope_sin):
        self.model.rope.tables = (rope_cos.repeat_interleave(2, dim=-1), rope_sin.repeat_interleave(2, dim=-1))
        return self.model(
            hidden_states.to(self.dtype),
            encoder_hidden_states.to(self.dtype),
            timestep,
            encoder_attention_mask,
            return_dict=False,
        )[0].float()


class Statistics(torch.nn.Module):
    """Mean and deviation per latent channel, with the scaling factor."""

    def __init__(self, vae: AutoencoderKLLTXVideo):
        super().__init__()
        scale = vae.latents_std.float() / vae.config.scaling_factor
        self.register_buffer("mean", vae.latents_mean.float().reshape(1, -1, 1, 1, 1).clone())
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1, 1).clone())


class VaeEncoder(Statistics):
    def __init__(self, vae: AutoencoderKLLTXVideo):
        super().__init__(vae)
        self.encoder = vae.encoder
        self.dtype = vae.dtype

    def forward(self, sample):
        mean, log_variance = self.encoder(sample.to(self.dtype)).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30.0, 20.0)
        return torch.cat([(mean - self.mean) / self.scale, log_variance - 2 * self.scale.log()], dim=1)


class VaeDecoder(Statistics):
    def __init__(self, vae: AutoencoderKLLTXVideo):
        super().__init__(vae)
        self.decoder = vae.decoder
        self.dtype = vae.dtype

    def forward(self, latent_sample):
        latents = latent_sample * self.scale + self.mean
        return self.decoder(latents.to(self.dtype), None).float()


class ConditionedVaeDecoder(VaeDecoder):
    def forward(self, latent_sample, noise, decode_noise_scale, timestep):
        latents = latent_sample * self.scale + self.mean
        amount = decode_noise_scale.reshape(1, 1, 1, 1, 1)
        latents = (1 - amount) * latents + amount * noise
        return self.decoder(latents.to(self.dtype), timestep.to(self.dtype)).float()


def export(module: torch.nn.Module, inputs: dict[str, tuple[torch.Tensor, dict]], output: str, target: Path) -> None:
    """Writes one graph; `inputs` are examples with their symbolic axes."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    program = torch.onnx.export(
        module.eval().requires_grad_(False),
        kwargs={name: example for name, (example, _) in inputs.items()},
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes={name: axes for name, (_, axes) in inputs.items()},
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    strip(program.model)
    external = sum(value.const_value.nbytes for value in program.model.graph.initializers.values()) > MAX_INLINE_BYTES
    ir.save(program.model, target / "model.onnx", external_data="model.onnx_data" if external else None)
    print(f"{target.name}: {sum(file.stat().st_size for file in target.iterdir()) / 1e6:.2f} MB", flush=True)


def strip(model: ir.Model) -> None:
    """Takes out what the exporter says about the Python source: half of a small graph, and paths of this machine."""
    graph = model.graph
    edges = {*graph.inputs, *graph.outputs}
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph.all_nodes() for value in node.outputs)]
    for item in (model, graph, *graph.all_nodes(), *values):
        item.metadata_props.clear()
        item.doc_string = None
    for value in values:
        if value not in edges and value.const_value is None:
            value.shape = value.type = None


def export_pipeline(pipeline, target: Path) -> None:
    """Writes all four graphs, the tokenizer and the schedule below `target`."""
    vae, transformer, encoder = pipeline.vae.eval(), pipeline.transformer.eval(), pipeline.text_encoder.eval()
    batch, tokens, length = Dim("batch", min=1, max=64), Dim("tokens", min=2, max=1_000_000), Dim("length", min=2, max=4096)
    frames, height, width = Dim("frames", min=1, max=100_000), Dim("height", min=2, max=1024), Dim("width", min=2, max=1024)

    ids = torch.zeros(2, 16, dtype=torch.long)
    text_axes = {0: batch, 1: length}
    inputs = {"input_ids": (ids, text_axes), "attention_mask": (torch.ones_like(ids), text_axes)}
    export(TextEncoder(encoder), inputs, "last_hidden_state", target / "text_encoder")

    config = transformer.config
    features, rope_width = config.in_channels, config.num_attention_heads * config.attention_head_dim // 2
    token_axes, rope_axes = {0: batch, 1: tokens}, {1: tokens}
    inputs = {
        "hidden_states": (torch.randn(2, 12, features), token_axes),
        "encoder_hidden_states": (torch.randn(2, 16, config.caption_channels), text_axes),
        "encoder_attention_mask": (torch.ones(2, 16), text_axes),
        "timestep": (torch.full((2, 12), 500.0), token_axes),
        "rope_cos": (torch.randn(1, 12, rope_width), rope_axes),
        "rope_sin": (torch.randn(1, 12, rope_width), rope_axes),
    }
    export(Transformer(transformer), inputs, "out_hidden_states", target / "transformer")

    side = vae.config.spatial_compression_ratio or 32
    h, w = Dim("latent_height", min=1, max=256), Dim("latent_width", min=1, max=256)
    inputs = {"sample": (torch.randn(1, 3, 1, side * 3, side * 4), {3: side * h, 4: side * w})}
    export(VaeEncoder(vae), inputs, "latent_parameters", target / "vae_encoder")

    channels, axes = vae.config.latent_channels, {2: frames, 3: height, 4: width}
    inputs = {"latent_sample": (torch.randn(1, channels, 3, 4, 5), axes)}
    if vae.config.timestep_conditioning:
        inputs |= {
            "noise": (torch.randn(1, channels, 3, 4, 5), axes),
            "decode_noise_scale": (torch.tensor([0.025]), {}),
            "timestep": (torch.tensor([0.05]), {}),
        }
    decoder = ConditionedVaeDecoder(vae) if vae.config.timestep_conditioning else VaeDecoder(vae)
    export(decoder, inputs, "sample", target / "vae_decoder")

    for part in ("tokenizer", "scheduler"):
        shutil.rmtree(target / part, ignore_errors=True)
        getattr(pipeline, part).save_pretrained(target / part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="folder or repository in diffusers' layout")
    parser.add_argument("out", type=Path, help="e.g. $DRYAPI_MODELS_DIR/Ltxv_13B_0_9_8_Distilled_FP8")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of weights and arithmetic; edges are float32")
    options = parser.parse_args()
    pipeline = LTXConditionPipeline.from_pretrained(options.pipeline, torch_dtype=getattr(torch, options.dtype))
    with torch.inference_mode():
        export_pipeline(pipeline, options.out)


if __name__ == "__main__":
    main()
