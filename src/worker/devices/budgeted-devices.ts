import type { Config } from "../../config/config.ts";
import { budgetOf, type BudgetedDevice } from "../../core/device-fit.ts";
import type { DetectedDevice } from "./devices.ts";

/** What models may use of each device, by the settings. */
export function budgetedDevices(
  devices: readonly DetectedDevice[],
  { deviceReserveBytes, deviceBudget }: Pick<Config, "deviceReserveBytes" | "deviceBudget">,
): readonly BudgetedDevice[] {
  return devices.map(({ id, kind, memoryBytes }) => ({ id, kind, budgetBytes: budgetOf(memoryBytes, deviceReserveBytes, deviceBudget) }));
}
