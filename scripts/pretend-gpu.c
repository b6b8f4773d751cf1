/*
 * Functions of CUDA's runtime, cuBLAS and cuDNN that stand before the real ones (LD_PRELOAD) and say that there is one GPU, whose memory is this
 * machine's. onnxruntime's CUDA provider can then open a session and decide which nodes it takes: `scripts/verify quantize` asks it whether it has
 * kernels. Nothing can be computed: whatever would start a kernel ends the process, so that no result of a run is ever taken for one.
 *
 *   gcc -shared -fPIC -o pretend-gpu.so scripts/pretend-gpu.c
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char handle[4096];

#define SUCCEEDS(name) \
  int name(void) { return 0; }
#define GIVES_A_HANDLE(name) \
  int name(void **made) { \
    *made = handle; \
    return 0; \
  }
#define ENDS_THE_PROCESS(name) \
  int name(void) { \
    fputs("pretend-gpu: " #name " was called; there is no GPU here\n", stderr); \
    _exit(86); \
  }

SUCCEEDS(cudaDeviceSynchronize)
SUCCEEDS(cudaEventDestroy)
SUCCEEDS(cudaEventRecord)
SUCCEEDS(cudaEventSynchronize)
SUCCEEDS(cudaGetLastError)
SUCCEEDS(cudaPeekAtLastError)
SUCCEEDS(cudaSetDevice)
SUCCEEDS(cudaStreamDestroy)
SUCCEEDS(cudaStreamSynchronize)
SUCCEEDS(cudaStreamWaitEvent)
SUCCEEDS(cublasDestroy_v2)
SUCCEEDS(cublasLtDestroy)
SUCCEEDS(cublasSetMathMode)
SUCCEEDS(cublasSetStream_v2)
SUCCEEDS(cudnnDestroy)
SUCCEEDS(cudnnSetStream)
GIVES_A_HANDLE(cudaEventCreate)
GIVES_A_HANDLE(cudaEventCreateWithFlags)
GIVES_A_HANDLE(cudaStreamCreate)
GIVES_A_HANDLE(cudaStreamCreateWithFlags)
GIVES_A_HANDLE(cublasCreate_v2)
GIVES_A_HANDLE(cublasLtCreate)
GIVES_A_HANDLE(cudnnCreate)
ENDS_THE_PROCESS(cudaLaunchKernel)
ENDS_THE_PROCESS(__cudaLaunchKernel)
ENDS_THE_PROCESS(cudaLaunchKernelExC)
ENDS_THE_PROCESS(cudaLaunchCooperativeKernel)
ENDS_THE_PROCESS(cudaGraphLaunch)

/* One device, the first one; CUDA 13.0; no stream that is being captured; a device that has none of what attributes tell of. */
int cudaGetDeviceCount(int *count) { return *count = 1, 0; }
int cudaGetDevice(int *device) { return *device = 0; }
int cudaDriverGetVersion(int *version) { return *version = 13000, 0; }
int cudaStreamIsCapturing(void *stream, int *status) { return *status = 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) { return *value = 0; }
int cudaMemGetInfo(size_t *available, size_t *total) { return *available = *total = (size_t)8 << 30, 0; }

/* The head of CUDA 13's struct cudaDeviceProp (driver_types.h), which is 1008 bytes; a Hopper card's figures. */
struct properties {
  char name[256], ids[32];
  size_t memory, shared_memory;
  int registers, warp;
  size_t pitch;
  int threads, block[3], grid[3], align;
  size_t constant;
  int major, minor;
  size_t texture[2];
  int multiprocessors;
};
int cudaGetDeviceProperties(struct properties *found, int device) {
  memset(found, 0, 1008);
  strcpy(found->name, "no GPU: scripts/pretend-gpu.c");
  found->memory = (size_t)8 << 30;
  found->shared_memory = 48 << 10;
  found->warp = 32;
  found->threads = found->block[0] = 1024;
  found->grid[0] = found->grid[1] = 65535;
  found->major = 9;
  found->multiprocessors = 132;
  return 0;
}

/* 2: cudaErrorMemoryAllocation */
int cudaMalloc(void **made, size_t bytes) { return (*made = malloc(bytes)) == NULL ? 2 : 0; }
int cudaMallocHost(void **made, size_t bytes) { return cudaMalloc(made, bytes); }
int cudaHostAlloc(void **made, size_t bytes, unsigned flags) { return cudaMalloc(made, bytes); }
int cudaFree(void *memory) { return free(memory), 0; }
int cudaFreeHost(void *memory) { return cudaFree(memory); }
int cudaMemset(void *memory, int value, size_t bytes) { return memset(memory, value, bytes), 0; }
int cudaMemsetAsync(void *memory, int value, size_t bytes, void *stream) { return cudaMemset(memory, value, bytes); }
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) { return memcpy(to, from, bytes), 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) { return cudaMemcpy(to, from, bytes, kind); }
