/* A small libnvidia-ml.so.1 for tests: answers from the text file that FAKE_NVML_STATE names, read anew at each
 * call, so that a test changes the GPUs by writing the file. Only what the node agent asks for is here.
 *
 * Lines, with fields separated by tabs:
 *   driver   VERSION
 *   init     CODE                        nvmlInit returns this code
 *   v1       yes                         a driver that knows only the first memory call
 *   gpu      UUID NAME TOTAL RESERVED USED GENERATION WIDTH MAX_WIDTH MIG HANDLE_ERROR MEMORY_ERROR
 *   nvlink   A B                         GPUs A and B reach each other over NVLink
 * Without the file the driver is not loaded. Struct layouts and codes follow nvml.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9,
       FUNCTION_NOT_FOUND = 13, GPU_IS_LOST = 15 };
enum { MOST_GPUS = 64, MOST_LINKS = 256, P2P_OK = 0, P2P_NOT_SUPPORTED = 5, INDEX_NVLINK = 2 };

typedef struct {
    char uuid[96], name[96];
    unsigned long long total, reserved, used;
    unsigned generation, width, max_width, mig;
    int handle_error, memory_error;
} Gpu;

typedef struct {
    char driver[80];
    int init, v1, gpus, links;
    Gpu gpu[MOST_GPUS];
    int link[MOST_LINKS][2];
} State;

static int open_count = 0;

static int load(State *state) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    memset(state, 0, sizeof *state);
    if (!file) { state->init = DRIVER_NOT_LOADED; return DRIVER_NOT_LOADED; }
    while (fgets(line, sizeof line, file)) {
        Gpu *gpu = &state->gpu[state->gpus];
        int *link = state->link[state->links];
        if (sscanf(line, "driver\t%79[^\n]", state->driver) == 1) continue;
        if (sscanf(line, "init\t%d", &state->init) == 1) continue;
        if (strncmp(line, "v1\tyes", 6) == 0) { state->v1 = 1; continue; }
        if (sscanf(line, "nvlink\t%d\t%d", &link[0], &link[1]) == 2) { state->links++; continue; }
        if (sscanf(line, "gpu\t%95[^\t]\t%95[^\t]\t%llu\t%llu\t%llu\t%u\t%u\t%u\t%u\t%d\t%d", gpu->uuid, gpu->name,
                   &gpu->total, &gpu->reserved, &gpu->used, &gpu->generation, &gpu->width, &gpu->max_width,
                   &gpu->mig, &gpu->handle_error, &gpu->memory_error) == 11) state->gpus++;
    }
    fclose(file);
    return open_count > 0 ? SUCCESS : UNINITIALIZED;
}

/* A handle is the GPU's number plus one. */
static int find(void *handle, State *state, Gpu **gpu) {
    int code = load(state);
    size_t number = (size_t)handle;
    if (code != SUCCESS) return code;
    if (number < 1 || number > (size_t)state->gpus) return GPU_IS_LOST;
    *gpu = &state->gpu[number - 1];
    return SUCCESS;
}

#define WITH_GPU(handle) State state; Gpu *gpu = NULL; int code = find(handle, &state, &gpu); if (code) return code

static int text(const char *value, char *target, unsigned length) {
    snprintf(target, length, "%s", value);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    State state;
    (void)flags;
    load(&state);
    if (state.init) return state.init;
    open_count++;
    return SUCCESS;
}

int nvmlShutdown(void) {
    if (!open_count) return UNINITIALIZED;
    open_count--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    switch (code) {
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case NOT_SUPPORTED: return "Not Supported";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *target, unsigned length) {
    State state;
    int code = load(&state);
    return code ? code : text(state.driver, target, length);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    State state;
    int code = load(&state);
    *count = (unsigned)state.gpus;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    WITH_GPU((void *)(size_t)(index + 1));
    *handle = (void *)(size_t)(index + 1);
    return gpu->handle_error;
}

int nvmlDeviceGetUUID(void *handle, char *target, unsigned length) {
    WITH_GPU(handle);
    return text(gpu->uuid, target, length);
}

int nvmlDeviceGetName(void *handle, char *target, unsigned length) {
    WITH_GPU(handle);
    return text(gpu->name, target, length);
}

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    WITH_GPU(handle);
    memory->total = gpu->total;
    memory->used = gpu->used + gpu->reserved;
    memory->free = gpu->total - memory->used;
    return gpu->memory_error;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *memory) {
    WITH_GPU(handle);
    if (state.v1) return FUNCTION_NOT_FOUND;
    if (memory->version != (sizeof(Memory2) | (2U << 24))) return INVALID_ARGUMENT;
    memory->total = gpu->total;
    memory->reserved = gpu->reserved;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->reserved - gpu->used;
    return gpu->memory_error;
}

#define NUMBER(name, field)                       \
    int name(void *handle, unsigned *value) {     \
        WITH_GPU(handle);                         \
        *value = gpu->field;                      \
        return gpu->field ? SUCCESS : NOT_SUPPORTED; \
    }
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, generation)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, width)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, max_width)

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    WITH_GPU(handle);
    if (gpu->mig == 2) return NOT_SUPPORTED; /* a product that has no slices */
    *current = *pending = gpu->mig;
    return SUCCESS;
}

int nvmlDeviceGetP2PStatus(void *one, void *other, int index, int *status) {
    WITH_GPU(one);
    int a = (int)(size_t)one - 1, b = (int)(size_t)other - 1;
    if (index != INDEX_NVLINK) return INVALID_ARGUMENT;
    *status = P2P_NOT_SUPPORTED;
    for (int i = 0; i < state.links; i++)
        if ((state.link[i][0] == a && state.link[i][1] == b) || (state.link[i][0] == b && state.link[i][1] == a))
            *status = P2P_OK;
    return SUCCESS;
}
