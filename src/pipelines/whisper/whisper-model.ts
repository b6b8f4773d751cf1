import type { Session } from "../backend.ts";
import type { Graph } from "../graph/graph-edge.ts";
import type { LoadContext } from "../pipeline.ts";
import { AudioEncoder } from "./audio-encoder.ts";
import { TokenDecoder } from "./token-decoder.ts";
import { readWhisperConfig, type WhisperConfig, type WhisperPart } from "./whisper-config.ts";
import { openWhisperTokenizer, type TextDecoding } from "./whisper-tokenizer.ts";

/** Everything that a loaded Whisper model holds. */
export interface WhisperModel {
  readonly config: WhisperConfig;
  readonly encoder: AudioEncoder;
  readonly decoder: TokenDecoder;
  readonly tokenizer: TextDecoding;
  /** Milliseconds inside native runs so far, both parts together. */
  sessionMs(): number;
  release(): Promise<void>;
}

/** Opens both parts; what is wrong with the folder shows before the long load. @throws AppError MODEL_* | MANIFEST_INVALID */
export async function openWhisperModel(context: LoadContext): Promise<WhisperModel> {
  const config = await readWhisperConfig(context.manifest, context.modelDir);
  const tokenizer = await openWhisperTokenizer(config.tokenizerPath, config.rules.end);
  const sessions: Session[] = [];
  const open = async (part: WhisperPart): Promise<Graph> => {
    const { path, names } = config.parts[part];
    context.stage(`load:${part}`);
    const session = await context.backend.open(path);
    sessions.push(session);
    return { part, session, names };
  };
  const release = async (): Promise<void> => {
    for (const session of sessions) await session.release();
  };
  try {
    const encoder = new AudioEncoder(await open("encoder"), config.melBins);
    const decoder = new TokenDecoder(await open("decoder"), config.decoder);
    return { config, encoder, decoder, tokenizer, sessionMs: () => sessions.reduce((sum, { runMs }) => sum + runMs, 0), release };
  } catch (thrown) {
    await release();
    throw thrown;
  }
}
