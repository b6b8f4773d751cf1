/** Transcribes so many seconds of made-up speech in this process and prints its peak resident set, bytes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFfmpeg } from "../../src/pipelines/media/ffmpeg.ts";
import { loadShipped, runJob } from "../../test/support/pipeline-rig.ts";
import { babble } from "../../test/support/whisper-audio.ts";

const RATE = 16_000;
const MINUTE = babble(17, 60 * RATE);
const minutes = Number(process.argv[2]);
const dir = await mkdtemp(join(tmpdir(), "transcription-peak-"));
try {
  const path = join(dir, "speech.wav");
  const args = ["-f", "s16le", "-ar", String(RATE), "-ac", "1", "-i", "pipe:0", path];
  await using ffmpeg = openFfmpeg({ what: "making speech", args, failure: "INTERNAL" });
  for (let minute = 0; minute < minutes; minute++) await ffmpeg.write(Buffer.from(MINUTE.buffer));
  await ffmpeg.finish();
  const { pipeline } = await loadShipped("tiny-whisper", { limits: { max_duration: 36_000 } });
  const inputs = [{ name: "audio", path, contentType: "audio/wav" }];
  const { end } = await runJob(pipeline, { id: "peak", task: "audiofile2txt", params: { include_ts: true }, inputs, outDir: dir });
  if (!end.ok) throw end.error;
  const { inputMs, runMs, sessionMs } = end.output;
  process.stdout.write(`${JSON.stringify({ peakBytes: process.resourceUsage().maxRSS * 1024, ms: inputMs + runMs, sessionMs })}\n`);
} finally {
  await rm(dir, { recursive: true, force: true });
}
