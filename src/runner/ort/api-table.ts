import type { Output, Parameter, Returned } from "./signature.ts";

/** The version of the table that is asked for: the oldest one that has every function below (Session_GetEpGraphAssignmentInfo). */
export const API_VERSION = 24;

/** A function that returns a status. */
function entry<const P extends readonly Parameter[], const O extends readonly Output[] = readonly []>(
  index: number,
  parameters: P,
  outputs?: O,
): { readonly index: number; readonly parameters: P; readonly outputs: O; readonly returns: "status" } {
  return { index, parameters, outputs: outputs ?? ([] as unknown as O), returns: "status" };
}

/** A function that cannot fail. */
function plain<const P extends readonly Parameter[], const R extends Returned, const O extends readonly Output[] = readonly []>(
  index: number,
  parameters: P,
  returns: R,
  outputs?: O,
): { readonly index: number; readonly parameters: P; readonly outputs: O; readonly returns: R } {
  return { index, parameters, outputs: outputs ?? ([] as unknown as O), returns };
}

/**
 * All that we call of onnxruntime's C API, and nothing else. Source of places and parameters: onnxruntime_c_api.h, whose table only grows
 * at its end (its own comment), so that a place holds for every later version. test: every one of them is called in the suite, but for
 * those of the CUDA and the TensorRT provider, which `scripts/verify cuda-options` calls.
 */
export const API = {
  GetErrorCode: plain(1, ["Status*"], "int"),
  GetErrorMessage: plain(2, ["Status*"], "text"),
  ReleaseStatus: plain(93, ["Status*"], "void"),

  CreateEnv: entry(3, ["int", "text"], ["Env*"]),
  DisableTelemetryEvents: entry(6, ["Env*"]),
  GetAvailableProviders: entry(125, [], ["address", "int"]),
  ReleaseAvailableProviders: entry(126, ["memory", "int"]),
  RegisterExecutionProviderLibrary: entry(301, ["Env*", "text", "text"]),
  UnregisterExecutionProviderLibrary: entry(302, ["Env*", "text"]),
  GetEpDevices: entry(303, ["Env*"], ["address", "size"]),
  HardwareDeviceType: plain(307, ["HardwareDevice*"], "int"),
  EpDeviceName: plain(312, ["EpDevice*"], "text"),
  EpDeviceHardware: plain(316, ["EpDevice*"], "HardwareDevice*"),

  CreateSessionOptions: entry(10, [], ["SessionOptions*"]),
  ReleaseSessionOptions: plain(100, ["SessionOptions*"], "void"),
  SetSessionExecutionMode: entry(13, ["SessionOptions*", "int"]),
  EnableProfiling: entry(14, ["SessionOptions*", "text"]),
  DisableMemPattern: entry(17, ["SessionOptions*"]),
  DisableCpuMemArena: entry(19, ["SessionOptions*"]),
  SetSessionLogSeverityLevel: entry(22, ["SessionOptions*", "int"]),
  SetSessionGraphOptimizationLevel: entry(23, ["SessionOptions*", "int"]),
  SetIntraOpNumThreads: entry(24, ["SessionOptions*", "int"]),
  SetInterOpNumThreads: entry(25, ["SessionOptions*", "int"]),
  AddSessionConfigEntry: entry(130, ["SessionOptions*", "text", "text"]),
  SessionOptionsSetLoadCancellationFlag: entry(293, ["SessionOptions*", "int"]),
  GetSessionConfigEntry: entry(238, ["SessionOptions*", "text", "memory", "memory"]),

  CreateCUDAProviderOptions: entry(205, [], ["CUDAProviderOptions*"]),
  UpdateCUDAProviderOptions: entry(206, ["CUDAProviderOptions*", "texts", "texts", "size"]),
  GetCUDAProviderOptionsAsString: entry(207, ["CUDAProviderOptions*", "Allocator*"], ["address"]),
  ReleaseCUDAProviderOptions: plain(208, ["CUDAProviderOptions*"], "void"),
  AppendCudaProvider: entry(204, ["SessionOptions*", "CUDAProviderOptions*"]),
  AppendTensorRTProvider: entry(170, ["SessionOptions*", "TensorRTProviderOptions*"]),
  CreateTensorRTProviderOptions: entry(171, [], ["TensorRTProviderOptions*"]),
  UpdateTensorRTProviderOptions: entry(172, ["TensorRTProviderOptions*", "texts", "texts", "size"]),
  GetTensorRTProviderOptionsAsString: entry(173, ["TensorRTProviderOptions*", "Allocator*"], ["address"]),
  ReleaseTensorRTProviderOptions: plain(174, ["TensorRTProviderOptions*"], "void"),
  AppendProvider: entry(216, ["SessionOptions*", "text", "texts", "texts", "size"]),
  AppendProviderDevices: entry(304, ["SessionOptions*", "Env*", "memory", "size", "texts", "texts", "size"]),

  CreateSession: entry(7, ["Env*", "text", "SessionOptions*"], ["Session*"]),
  ReleaseSession: plain(95, ["Session*"], "void"),
  SessionGetInputCount: entry(30, ["Session*"], ["size"]),
  SessionGetOutputCount: entry(31, ["Session*"], ["size"]),
  SessionGetInputTypeInfo: entry(33, ["Session*", "size"], ["TypeInfo*"]),
  SessionGetOutputTypeInfo: entry(34, ["Session*", "size"], ["TypeInfo*"]),
  SessionGetInputName: entry(36, ["Session*", "size", "Allocator*"], ["address"]),
  SessionGetOutputName: entry(37, ["Session*", "size", "Allocator*"], ["address"]),
  SessionEndProfiling: entry(110, ["Session*", "Allocator*"], ["address"]),
  SessionGetMemoryInfoForOutputs: entry(381, ["Session*", "memory", "size"]),
  SessionGetEpGraphAssignmentInfo: entry(407, ["Session*"], ["address", "size"]),
  EpAssignedSubgraphProvider: entry(408, ["EpAssignedSubgraph*"], ["address"]),
  EpAssignedSubgraphNodes: entry(409, ["EpAssignedSubgraph*"], ["address", "size"]),
  EpAssignedNodeOperator: entry(412, ["EpAssignedNode*"], ["address"]),

  CreateRunOptions: entry(39, [], ["RunOptions*"]),
  ReleaseRunOptions: plain(97, ["RunOptions*"], "void"),
  RunOptionsSetTerminate: entry(46, ["RunOptions*"]),
  RunOptionsUnsetTerminate: entry(47, ["RunOptions*"]),
  AddRunConfigEntry: entry(165, ["RunOptions*", "text", "text"]),

  CastTypeInfoToTensorInfo: entry(55, ["TypeInfo*"], ["address"]),
  ReleaseTypeInfo: plain(98, ["TypeInfo*"], "void"),
  GetTensorElementType: entry(60, ["TensorTypeAndShapeInfo*"], ["int"]),
  GetDimensionsCount: entry(61, ["TensorTypeAndShapeInfo*"], ["size"]),
  GetDimensions: entry(62, ["TensorTypeAndShapeInfo*", "memory", "size"]),
  GetSymbolicDimensions: entry(63, ["TensorTypeAndShapeInfo*", "memory", "size"]),
  ReleaseTensorTypeAndShapeInfo: plain(99, ["TensorTypeAndShapeInfo*"], "void"),

  CreateTensorWithDataAsOrtValue: entry(49, ["MemoryInfo*", "memory", "size", "memory", "size", "int"], ["Value*"]),
  GetTensorMutableData: entry(51, ["Value*"], ["address"]),
  GetTensorTypeAndShape: entry(65, ["Value*"], ["TensorTypeAndShapeInfo*"]),
  GetTensorMemoryInfo: entry(194, ["Value*"], ["MemoryInfo*"]),
  ReleaseValue: plain(96, ["Value*"], "void"),

  CreateCpuMemoryInfo: entry(69, ["int", "int"], ["MemoryInfo*"]),
  CreateMemoryInfo: entry(68, ["text", "int", "int", "int"], ["MemoryInfo*"]),
  MemoryInfoGetName: entry(71, ["MemoryInfo*"], ["address"]),
  ReleaseMemoryInfo: plain(94, ["MemoryInfo*"], "void"),
  GetAllocatorWithDefaultOptions: entry(78, [], ["Allocator*"]),
  AllocatorFree: entry(76, ["Allocator*", "memory"]),

  CreateIoBinding: entry(134, ["Session*"], ["IoBinding*"]),
  ReleaseIoBinding: plain(135, ["IoBinding*"], "void"),
  BindInput: entry(136, ["IoBinding*", "text", "Value*"]),
  BindOutput: entry(137, ["IoBinding*", "text", "Value*"]),
  BindOutputToDevice: entry(138, ["IoBinding*", "text", "MemoryInfo*"]),
  GetBoundOutputValues: entry(140, ["IoBinding*", "Allocator*"], ["address", "size"]),
  RunWithBinding: entry(133, ["Session*", "RunOptions*", "IoBinding*"]),
} as const;

export type Api = typeof API;
export type ApiName = keyof Api;
