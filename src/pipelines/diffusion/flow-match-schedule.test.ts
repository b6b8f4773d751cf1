import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { dynamicShift, firstStep, flowMatchSchedule, parseFlowMatchConfig } from "./flow-match-schedule.ts";

const CLASS = "FlowMatchEulerDiscreteScheduler";
const schnell = parseFlowMatchConfig({ _class_name: CLASS, shift: 1.0, use_dynamic_shifting: false }, "schnell");
const dev = parseFlowMatchConfig(
  {
    _class_name: CLASS,
    shift: 3.0,
    use_dynamic_shifting: true,
    base_shift: 0.5,
    max_shift: 1.15,
    base_image_seq_len: 256,
    max_image_seq_len: 4096,
  },
  "dev",
);

function near(actual: Iterable<number>, expected: readonly number[], tolerance = 1e-7): void {
  const values = [...actual];
  assert.equal(values.length, expected.length);
  for (const [i, value] of expected.entries())
    assert.ok(Math.abs(values[i]! - value) <= tolerance, `value ${i} is ${values[i]}, expected ${value}`);
}

test("dynamic shift equals diffusers' for the four square sizes", () => {
  near(
    [256, 1024, 2304, 4096].map((tokens) => dynamicShift(dev, tokens)),
    [0.5, 0.63, 0.846667, 1.15],
    1e-6,
  );
});

test("a static shift of 1 leaves the linear schedule", () => {
  const { sigmas, timesteps } = flowMatchSchedule(schnell, 4, 4096);
  near(sigmas, [1, 0.75, 0.5, 0.25, 0]);
  near(timesteps, [1000, 750, 500, 250]);
});

test("dynamic schedules equal diffusers' at two sizes", () => {
  near(flowMatchSchedule(dev, 4, 4096).sigmas, [1, 0.90453076, 0.75951093, 0.5128441, 0]);
  near(flowMatchSchedule(dev, 4, 1024).sigmas, [1, 0.8492348, 0.6524895, 0.38494474, 0]);
  const { sigmas } = flowMatchSchedule(dev, 28, 4096);
  near(
    [1, 2, 14, 26, 27].map((i) => sigmas[i]!),
    [0.9884086, 0.97622246, 0.75951093, 0.1954546, 0.1047209],
  );
});

test("a static shift of 3 equals the known 8-step schedule", () => {
  const config = parseFlowMatchConfig({ _class_name: CLASS, shift: 3 }, "shift 3");
  near(flowMatchSchedule(config, 8, 1).sigmas, [1, 0.95454544, 0.9, 0.8333333, 0.75, 0.64285713, 0.5, 0.3, 0]);
});

test("shift_terminal becomes the last sigma", () => {
  const config = parseFlowMatchConfig({ _class_name: CLASS, shift: 1, shift_terminal: 0.1 }, "terminal");
  near(flowMatchSchedule(config, 4, 1).sigmas, [1, 0.7, 0.4, 0.1, 0], 1e-6);
});

test("one step goes from noise to picture", () => {
  near(flowMatchSchedule(schnell, 1, 1).sigmas, [1, 0]);
});

test("image-to-image skips the steps that the strength leaves out", () => {
  assert.equal(firstStep(4, 0.6), 1);
  assert.equal(firstStep(6, 0.85), 0);
  assert.equal(firstStep(6, 0.6), 2);
  assert.equal(firstStep(4, 1), 0);
  assert.equal(firstStep(2, 0.1), 1);
  assert.equal(firstStep(10, 0), 10);
});

test("a schedule that is not built is refused with its name", () => {
  const refused = (config: object, text: RegExp): void => {
    assert.throws(
      () => parseFlowMatchConfig(config, "scheduler_config.json"),
      (thrown) => thrown instanceof AppError && thrown.code === "MODEL_UNSUPPORTED" && text.test(thrown.message),
    );
  };
  refused({ _class_name: "EulerDiscreteScheduler" }, /EulerDiscreteScheduler/);
  refused({ _class_name: CLASS, use_karras_sigmas: true }, /use_karras_sigmas/);
  refused({ _class_name: CLASS, shift: "three" }, /shift/);
  refused({}, /_class_name/);
});
