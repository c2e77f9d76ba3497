/* A stand-in for libcuda.so.1 with no GPU behind it: "device" memory is the host's, and launching
 * the kernel `burn` does here, in C, what it is to do. The environment says what goes wrong:
 *   CUDA_DEVICES=2           how many GPUs (1)
 *   CUDA_CAPABILITY=52       of all of them
 *   CUDA_FREE=131072         bytes of free memory
 *   CUDA_PIECE=4096          bytes of the largest allocation that succeeds
 *   CUDA_FAIL=cuMemAlloc_v2:2   every call of this function gives this error
 *   CUDA_HANG=cuCtxSynchronize  a call of this function never ends
 *   CUDA_FLIP=fill|lane|stuck   a bit is wrong: in memory after a fill, in what a comparing lane
 *                               computes, or in both runs alike, which the CPU alone can see
 *   CUDA_FLIP_DEVICE=1       on this GPU alone
 *   CUDA_LOG=FILE            the functions called, a line each; and the PTX
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static __thread int current = -1;

static const char *word(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value ? value : otherwise;
}

static int enter(const char *function)
{
    const char *log = getenv("CUDA_LOG"), *fail = getenv("CUDA_FAIL");
    size_t length = strlen(function);
    if (log) {
        FILE *file = fopen(log, "a");
        fprintf(file, "%s\n", function);
        fclose(file);
    }
    if (!strcmp(word("CUDA_HANG", ""), function))
        for (;;) pause();
    if (fail && !strncmp(fail, function, length) && fail[length] == ':')
        return atoi(fail + length + 1);
    return 0;
}

#define ENTER do { int status = enter(__func__); if (status) return status; } while (0)

int cuInit(unsigned flags) { ENTER; return flags ? 1 : 0; }
int cuDeviceGetCount(int *count) { ENTER; *count = atoi(word("CUDA_DEVICES", "1")); return 0; }
int cuDeviceGet(int *device, int ordinal) { ENTER; *device = ordinal; return 0; }

int cuDeviceGetName(char *name, int length, int device)
{
    ENTER;
    snprintf(name, length, "Stand-in %d", device);
    return 0;
}

int cuDeviceGetPCIBusId(char *id, int length, int device)
{
    ENTER;
    snprintf(id, length, "0000:%02X:00.0", 10 + device);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    ENTER;
    int capability = atoi(word("CUDA_CAPABILITY", "52"));
    if (attribute != 75 && attribute != 76) return 1;
    *value = attribute == 75 ? capability / 10 : capability % 10;
    return device < 0;
}

int cuCtxCreate_v2(void **context, unsigned flags, int device)
{
    ENTER;
    if (flags != 4) return 1;
    current = device;
    *context = (void *)(intptr_t)(device + 1);
    return 0;
}

int cuCtxDestroy_v2(void *context) { ENTER; return (intptr_t)context != current + 1; }

int cuModuleLoadData(void **module, const char *ptx)
{
    ENTER;
    if (getenv("CUDA_LOG")) {
        FILE *file = fopen(getenv("CUDA_LOG"), "a");
        fputs(ptx, file);
        fclose(file);
    }
    *module = (void *)1;
    return 0;
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    ENTER;
    *function = (void *)2;
    return strcmp(name, "burn") ? 500 : module != (void *)1;
}

int cuMemGetInfo_v2(size_t *available, size_t *total)
{
    ENTER;
    *available = *total = strtoull(word("CUDA_FREE", "131072"), NULL, 10);
    return 0;
}

int cuMemAlloc_v2(uint64_t *address, size_t size)
{
    ENTER;
    if (size > strtoull(word("CUDA_PIECE", "1073741824"), NULL, 10)) return 2;
    *address = (uint64_t)(uintptr_t)malloc(size);
    return 0;
}

int cuMemsetD32_v2(uint64_t address, unsigned value, size_t count)
{
    ENTER;
    for (size_t i = 0; i < count; i++) ((uint32_t *)(uintptr_t)address)[i] = value;
    return 0;
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size)
{
    ENTER;
    memcpy(to, (void *)(uintptr_t)from, size);
    return 0;
}

int cuCtxSynchronize(void) { ENTER; return current < 0; }

static uint32_t burn(uint32_t i, uint32_t seed, uint32_t rounds)
{
    uint32_t s = i * 2654435761u + seed, bits = s >> 9 | 0x3f800000u;
    volatile float x, t; /* volatile: no operation is fused with another */
    memcpy((void *)&x, &bits, 4);
    x = x - 1.0f;
    x = x * 0.75f;
    x = x + 0.125f;
    while (rounds--) {
        float now;
        s = s * 1664525u + 1013904223u;
        s ^= s >> 15;
        t = x * 3.9f;
        x = fmaf(-t, x, t);
        now = x;
        memcpy(&bits, &now, 4);
        s ^= bits;
    }
    return s;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **values, void **extra)
{
    ENTER;
    uint64_t base = *(uint64_t *)values[0], faults = *(uint64_t *)values[1];
    uint32_t words = *(uint32_t *)values[2], seed = *(uint32_t *)values[3];
    uint32_t rounds = *(uint32_t *)values[4], *memory = (uint32_t *)(uintptr_t)base;
    const char *flip = word("CUDA_FLIP", "");
    if (function != (void *)2 || gy * gz * by * bz != 1 || shared || stream || extra) return 1;
    if ((uint64_t)gx * bx < words || (uint64_t)(gx - 1) * bx >= words) return 1;
    if (atoi(word("CUDA_FLIP_DEVICE", "-1")) != current && getenv("CUDA_FLIP_DEVICE")) flip = "";
    for (uint32_t i = 0; i < words; i++) {
        uint32_t value = burn(i, seed, rounds);
        if (!strcmp(flip, "stuck")) value |= 0x10;
        if (!strcmp(flip, "lane") && faults && i == 7) value ^= 1;
        if (!faults) memory[i] = value;
        else if (memory[i] != value) ++*(uint64_t *)(uintptr_t)faults;
    }
    if (!faults && !strcmp(flip, "fill")) memory[words / 2] ^= 0x8000;
    return 0;
}

int cuGetErrorName(int status, const char **name)
{
    *name = status == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : status == 100 ? "CUDA_ERROR_NO_DEVICE"
        : status == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_UNKNOWN";
    return 0;
}
