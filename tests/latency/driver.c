/* A driver without a GPU: the functions of libcuda that onnxprune calls, with their real signatures, on memory of the
   host. Its clock goes on by 2 ms between two events. COUNT devices of FREE bytes; an allocation above that fails. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef COUNT
#define COUNT 1
#endif
#ifndef INIT
#define INIT 0
#endif
#define FREE ((size_t)1 << 20)

static size_t used;
static int current;
struct event { float ms; };
static float now;

int cuInit(unsigned flags) { return flags ? 1 : INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int number) { *device = number + 100; return number < COUNT ? 0 : 101; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Pretended GPU", size); return device < 100; }
int cuDeviceGetUuid(unsigned char *id, int device) { for (int k = 0; k < 16; k++) id[k] = k; return device < 100; }
int cuDeviceGetPCIBusId(char *id, int size, int device) { strncpy(id, "0000:01:00.0", size); return device < 100; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &current; return device < 100; }
int cuCtxSetCurrent(void *context) { current = context == &current; return !current; }
int cuMemGetInfo_v2(size_t *available, size_t *total) { *available = FREE - used; *total = FREE; return !current; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(8); return flags > 1; }
int cuStreamSynchronize(void *stream) { return stream ? 0 : 400; }
int cuEventCreate(void **event, unsigned flags) { *event = calloc(1, sizeof(struct event)); return flags > 3; }
int cuEventRecord(void *event, void *stream) { ((struct event *)event)->ms = now += 2; return stream ? 0 : 400; }
int cuEventSynchronize(void *event) { return event ? 0 : 400; }
int cuEventElapsedTime(float *ms, void *start, void *end) {
    *ms = ((struct event *)end)->ms - ((struct event *)start)->ms;
    return 0;
}
int cuEventDestroy_v2(void *event) { free(event); return 0; }
int cuGetErrorName(int status, const char **name) {
    *name = status == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return 0;
}

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (used + size > FREE) return 2;
    size_t *block = malloc(size + 16);
    *block = size;
    used += size;
    *address = (uint64_t)(uintptr_t)(block + 2);
    return 0;
}
int cuMemFree_v2(uint64_t address) {
    size_t *block = (size_t *)(uintptr_t)address - 2;
    used -= *block;
    free(block);
    return 0;
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { memcpy((void *)(uintptr_t)to, from, size); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { memcpy(to, (void *)(uintptr_t)from, size); return 0; }
