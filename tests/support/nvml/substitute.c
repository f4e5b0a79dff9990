/* A substitute for NVIDIA's management library, for tests on machines without a GPU: built as libnvidia-ml.so.1 and
 * found through LD_LIBRARY_PATH, it answers the real pynvml. It knows what bench/probes asks for and nothing more.
 *
 * SUBSTITUTE_NVML holds settings, separated by commas:
 *   gpus=N             this many GPUs (1)
 *   models=mixed       the second and later ones are of another model
 *   mig=N              GPU N is in MIG mode and has two slices
 *   power=W            draws this much, and the energy counter grows by it (250)
 *   cap=W              its power limit (700)
 *   update=S           power and energy have a new value every S seconds (0: at each call), as on an H200 every 0.1
 *   utilization_update=S   likewise the utilization, as on an H200 every 0.2
 *   energy_cost=S      a call of the energy counter takes S seconds, as on an H200 0.0033
 *   driver=VERSION     of the driver (580.159.04)
 *   capability=M.N     the compute capability (9.0)
 *   throttle=SHARE     the share of the time by which all throttle counters grow (0)
 *   gpm=1              the GPUs know GPM; of samples less than 0.05 s apart it makes 0 and NaN, as an H200 does
 *   gpm_nan=1          the memory's activity is NaN without an error, whatever the span
 *   xid=S              GPU 0 reports an Xid S seconds after the start; may be given several times
 *   process=PID        computes on GPU 0; may be given several times
 *   ranks=N            the ranks of the trial in SCALING_TRIAL_FOLDER compute on GPU 0; waits until N of them have begun
 *   listed=FILE        the processes whose ids are in this file, one on a line, compute on GPU 0
 *   client=PID         computes on GPU 0 through an MPS server; may be given several times
 *   graphics=PID       draws on GPU 0; may be given several times
 *   held=MIB           what each of these processes holds (1024)
 *   named=PID:PATH     the program of a process, where the driver knows it; may be given several times
 *   lost=N             GPU 0 falls off the bus at its Nth reading of fields
 *   fault=NAME:CODE    a function, or a field as field74, answers with this error, on all GPUs
 *   fault=NAME:CODE:N  … at its Nth call only
 * substitute_calls(NAME) says how often a function was called.
 */
#include <glob.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, BAD = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15, NO_DATA = 21 };
enum { UINT = 1, ULONGLONG = 3, MOST_GPUS = 8, SLICES = 2, XID_EVENT = 8 };

typedef unsigned long long u64;
typedef struct { int gpu, slice; } Device; /* slice is -1 for a whole GPU */
typedef struct { int gpu, delivered; } Events;
typedef union { double d; unsigned u; u64 ull; } Number;
typedef struct { unsigned id, scope; int64_t at, latency; unsigned type, result; Number value; } FieldValue;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version, sensor; int celsius; } Temperature;
typedef struct { unsigned pid; u64 memory; unsigned gpu_instance, compute_instance; } Process;
typedef struct { Device *device; u64 type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { unsigned version, supported; } GpmSupport;
typedef struct { unsigned id, result; double value; char *texts[3]; } Metric;
typedef struct { unsigned version, count; double *older, *newer; Metric metrics[]; } Metrics;

static Device devices[MOST_GPUS][1 + SLICES];
static struct { char name[64]; int calls; } counts[64];
static double started;
static int lost, samples[MOST_GPUS];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* The text after "key=" of the setting's nth mention, or NULL. */
static const char *setting(const char *key, int nth) {
    const char *at = getenv("SUBSTITUTE_NVML");
    size_t length = strlen(key);
    for (; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, key, length) && at[length] == '=' && nth-- == 0) return at + length + 1;
    return NULL;
}

static double number(const char *key, double otherwise) {
    const char *text = setting(key, 0);
    return text ? atof(text) : otherwise;
}

/* How often there was a new value since the start, of what has one every so many seconds. */
static u64 updates(double passed, double interval) { return interval > 0 ? (u64)(passed / interval) : 0; }

/* Seconds from the start to the last new value of the power and the energy. */
static double updated(void) {
    double passed = now() - started, interval = number("update", 0);
    return interval > 0 ? updates(passed, interval) * interval : passed;
}

/* The power, which moves by a milliwatt with every new value. */
static unsigned milliwatts_now(void) {
    return number("power", 250) * 1000 + updates(now() - started, number("update", 0)) % 2;
}

static int *calls_of(const char *name) {
    int i = 0;
    while (counts[i].name[0] && strcmp(counts[i].name, name)) i++;
    strcpy(counts[i].name, name);
    return &counts[i].calls;
}

int substitute_calls(const char *name) { return *calls_of(name); }

/* Counts the call and says which error was ordered for it. */
static int enter(const char *name, const Device *device) {
    int call = ++*calls_of(name);
    const char *fault;
    size_t length = strlen(name);
    for (int i = 0; (fault = setting("fault", i)); i++) {
        int code = 0, nth = 0;
        if (strncmp(fault, name, length) || fault[length] != ':') continue;
        sscanf(fault + length, ":%d:%d", &code, &nth);
        if (!nth || nth == call) return code;
    }
    return device && device->gpu == 0 && lost ? LOST : OK;
}

#define ENTER(device) \
    do { int error = enter(__func__, device); if (error) return error; } while (0)
#define ENTER_WHOLE(device) \
    do { ENTER(device); if ((device)->slice >= 0) return UNSUPPORTED; } while (0)

/* Everything begins anew: one process may try several settings one after the other. */
int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    memset(counts, 0, sizeof counts);
    lost = 0, started = now();
    ENTER(NULL);
    for (int gpu = 0; gpu < MOST_GPUS; gpu++)
        for (int i = 0; i <= SLICES; i++) devices[gpu][i] = (Device){gpu, i - 1};
    return OK;
}

int nvmlShutdown(void) { ENTER(NULL); return OK; }

const char *nvmlErrorString(int code) { (void)code; return "an error of the substitute"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    ENTER(NULL);
    const char *version = setting("driver", 0);
    version = version ? version : "580.159.04";
    snprintf(text, length, "%.*s", (int)strcspn(version, ","), version);
    return OK;
}

int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    ENTER(device);
    const char *text = setting("capability", 0);
    *major = 9, *minor = 0;
    if (text) sscanf(text, "%d.%d", major, minor);
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER(NULL);
    *count = number("gpus", 1);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    ENTER(NULL);
    if (index >= number("gpus", 1)) return BAD;
    *device = &devices[index][0];
    return OK;
}

int nvmlDeviceGetUUID(Device *device, char *text, unsigned length) {
    ENTER(device);
    const char *kind = device->slice < 0 ? "GPU" : "MIG";
    snprintf(text, length, "%s-%d%d000000-0000-4000-8000-000000000000", kind, device->gpu, device->slice + 1);
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *wanted, Device **device) {
    ENTER(NULL);
    for (int gpu = 0; gpu < number("gpus", 1); gpu++)
        for (int i = 0; i <= SLICES; i++) {
            char text[80];
            nvmlDeviceGetUUID(&devices[gpu][i], text, sizeof text);
            if (!strcmp(text, wanted) && (!i || gpu == number("mig", -1))) { *device = &devices[gpu][i]; return OK; }
        }
    return NOT_FOUND;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *slice, Device **device) {
    ENTER(slice);
    *device = &devices[slice->gpu][0];
    return OK;
}

int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    ENTER_WHOLE(device);
    *milliwatts = number("cap", 700) * 1e3;
    return OK;
}

int nvmlDeviceGetName(Device *device, char *text, unsigned length) {
    ENTER(device);
    const char *model = device->gpu && setting("models", 0) ? "Substitute B" : "Substitute A";
    snprintf(text, length, "%s%s", model, device->slice < 0 ? "" : " MIG 3g.40gb");
    return OK;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    ENTER(device);
    if (!setting("mig", 0)) return UNSUPPORTED;
    *current = *pending = device->gpu == number("mig", -1);
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) { ENTER(device); *count = 7; return OK; }

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **slice) {
    ENTER(device);
    if (index >= SLICES) return NOT_FOUND;
    *slice = &devices[device->gpu][1 + index];
    return OK;
}

int nvmlDeviceGetGpuInstanceId(Device *device, unsigned *id) { ENTER(device); *id = 1 + device->slice; return OK; }

int nvmlDeviceGetComputeInstanceId(Device *device, unsigned *id) { ENTER(device); *id = 0; return OK; }

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *rates) {
    ENTER_WHOLE(device);
    *rates = (Utilization){75 + updates(now() - started, number("utilization_update", 0)) % 2, 20};
    return OK;
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    ENTER(device);
    *memory = (Memory){80ull << 30, 77ull << 30, 3ull << 30};
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *memory) {
    ENTER(device);
    *memory = (Memory2){memory->version, 80ull << 30, 1ull << 30, 77ull << 30, 2ull << 30};
    return OK;
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    ENTER_WHOLE(device);
    *milliwatts = milliwatts_now() - 1000; /* one watt off, to tell it from the field */
    return OK;
}

int nvmlDeviceGetTemperatureV(Device *device, Temperature *temperature) {
    ENTER_WHOLE(device);
    temperature->celsius = 61;
    return OK;
}

int nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    ENTER_WHOLE(device);
    *celsius = 60;
    return OK;
}

int nvmlDeviceGetClockInfo(Device *device, unsigned clock, unsigned *mhz) {
    ENTER_WHOLE(device);
    *mhz = clock == 1 ? 1980 : 2619;
    return OK;
}

static void read_field(const Device *device, FieldValue *field) {
    double passed = now() - started;
    char name[16];
    snprintf(name, sizeof name, "field%u", field->id);
    field->result = enter(name, device);
    field->type = ULONGLONG;
    field->value.ull = UINT64_MAX; /* what a smaller member leaves over is no part of the value */
    switch (field->id) {
    case 4: field->value.ull = 0; break;
    case 74: case 269: case 270: case 271: field->value.ull = 5e9 + passed * number("throttle", 0) * 1e9; break;
    case 83:
        nanosleep(&(struct timespec){0, number("energy_cost", 0) * 1e9}, NULL);
        field->value.ull = 1e6 + updated() * number("power", 250) * 1e3;
        break;
    case 138: case 139: /* the scope of all links together */
        if (field->scope != UINT32_MAX) field->result = BAD;
        field->value.ull = 1024 + passed * 1e6;
        break;
    case 186: field->type = UINT; field->value.u = milliwatts_now(); break;
    case 197: case 198: field->value.ull = 1e9 + passed * 1e9; break;
    default: field->result = UNSUPPORTED;
    }
}

int nvmlDeviceGetFieldValues(Device *device, int count, FieldValue *fields) {
    if (device->gpu == 0 && setting("lost", 0) && *calls_of(__func__) + 1 >= number("lost", 0)) lost = 1;
    ENTER_WHOLE(device);
    if (count < 1) return BAD;
    for (int i = 0; i < count; i++) read_field(device, &fields[i]);
    return OK;
}

/* The process ids of ranks that have begun, from their progress files. */
static unsigned begun_ranks(unsigned *pids, unsigned room) {
    char pattern[4096];
    unsigned found = 0;
    glob_t files;
    const char *folder = getenv("SCALING_TRIAL_FOLDER");
    snprintf(pattern, sizeof pattern, "%s/progress-*", folder ? folder : "/nowhere");
    if (glob(pattern, 0, NULL, &files)) return 0;
    for (size_t i = 0; i < files.gl_pathc && found < room; i++) {
        uint64_t pid = 0;
        FILE *file = fopen(files.gl_pathv[i], "rb");
        if (file && fread(&pid, sizeof pid, 1, file) == 1 && pid) pids[found++] = pid;
        if (file) fclose(file);
    }
    globfree(&files);
    return found;
}

static unsigned await_ranks(unsigned *pids, unsigned room) {
    unsigned found = begun_ranks(pids, room);
    for (double until = now() + 20; found < number("ranks", 0) && now() < until; found = begun_ranks(pids, room))
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    return found;
}

static int list_processes(const char *kind, const Device *device, unsigned *count, Process *processes) {
    unsigned found = 0, room = *count;
    const char *pid;
    for (; device->gpu == 0 && (pid = setting(kind, found)); found++)
        if (found < room)
            processes[found] = (Process){atoi(pid), (u64)number("held", 1024) << 20, UINT32_MAX, UINT32_MAX};
    if (device->gpu == 0 && !strcmp(kind, "process") && setting("ranks", 0)) {
        unsigned pids[64], ranks = await_ranks(pids, 64);
        for (unsigned i = 0; i < ranks; i++, found++)
            if (found < room)
                processes[found] = (Process){pids[i], (u64)number("held", 1024) << 20, UINT32_MAX, UINT32_MAX};
    }
    const char *path = strcmp(kind, "process") ? NULL : setting("listed", 0);
    if (device->gpu == 0 && path) {
        char name[4096];
        unsigned pid;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(path, ","), path);
        FILE *file = fopen(name, "r");
        for (; file && fscanf(file, "%u", &pid) == 1; found++)
            if (found < room)
                processes[found] = (Process){pid, (u64)number("held", 1024) << 20, UINT32_MAX, UINT32_MAX};
        if (file) fclose(file);
    }
    *count = found;
    return found > room ? TOO_SMALL : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *processes) {
    ENTER(device);
    return list_processes("process", device, count, processes);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(Device *device, unsigned *count, Process *processes) {
    ENTER(device);
    return list_processes("client", device, count, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *device, unsigned *count, Process *processes) {
    ENTER(device);
    return list_processes("graphics", device, count, processes);
}

int nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
    const char *text;
    char *path;
    ENTER(NULL);
    for (int i = 0; (text = setting("named", i)); i++)
        if (strtoul(text, &path, 10) == pid && *path == ':') {
            snprintf(name, length, "%.*s", (int)strcspn(path + 1, ","), path + 1);
            return OK;
        }
    return NOT_FOUND;
}

int nvmlEventSetCreate(Events **events) {
    ENTER(NULL);
    *events = calloc(1, sizeof **events);
    (*events)->gpu = -1;
    return OK;
}

int nvmlDeviceRegisterEvents(Device *device, u64 types, Events *events) {
    ENTER_WHOLE(device);
    if (types == XID_EVENT) events->gpu = device->gpu;
    return OK;
}

int nvmlEventSetWait_v2(Events *events, Event *event, unsigned timeout_ms) {
    (void)timeout_ms;
    ENTER(events->gpu < 0 ? NULL : &devices[events->gpu][0]);
    const char *after = events->gpu == 0 ? setting("xid", events->delivered) : NULL;
    if (!after || now() - started < atof(after)) return TIMEOUT;
    events->delivered++;
    *event = (Event){&devices[0][0], XID_EVENT, 79, UINT32_MAX, UINT32_MAX};
    return OK;
}

int nvmlEventSetFree(Events *events) { ENTER(NULL); free(events); return OK; }

int nvmlGpmQueryDeviceSupport(Device *device, GpmSupport *support) {
    ENTER_WHOLE(device);
    support->supported = number("gpm", 0);
    return OK;
}

/* A sample: when it was taken, the number of a slice's instance, the how manieth of its whole GPU it is. */
int nvmlGpmSampleAlloc(double **sample) { ENTER(NULL); *sample = calloc(3, sizeof **sample); return OK; }

int nvmlGpmSampleFree(double *sample) { ENTER(NULL); free(sample); return OK; }

int nvmlGpmSampleGet(Device *device, double *sample) {
    ENTER_WHOLE(device);
    sample[0] = now(), sample[2] = ++samples[device->gpu];
    return OK;
}

int nvmlGpmMigSampleGet(Device *device, unsigned gpu_instance, double *sample) {
    ENTER_WHOLE(device);
    sample[0] = now(), sample[1] = gpu_instance;
    return OK;
}

int nvmlGpmMetricsGet(Metrics *metrics) {
    ENTER(NULL);
    const double *older = metrics->older, *newer = metrics->newer;
    if (metrics->version != 1 || newer[2] - older[2] > 1) return BAD;
    int too_close = newer[0] - older[0] < 0.05;
    for (unsigned i = 0; i < metrics->count; i++) {
        Metric *metric = &metrics->metrics[i];
        metric->value = metric->id == 2 ? 80 - newer[1] : metric->id == 5 ? 40 : 30;
        if (too_close) metric->value = metric->id == 10 ? NAN : 0;
        if (metric->id == 10 && setting("gpm_nan", 0)) metric->value = NAN;
        metric->result = OK;
    }
    return OK;
}
