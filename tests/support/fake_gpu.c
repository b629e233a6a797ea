/* A backend of ggml that calls itself a GPU, CUDA0, and computes on the CPU: what a card does to us, without a card.
 *
 * FAKE_GPU says how it behaves: fine (the default), wrong, none (no card), crash (at load), hang (at load), noisy (it prints),
 * late (the process ends at the first computation), full (no memory, though it says that there is). FAKE_GPU_FREE_MB: free memory.
 * The structures are those of ggml-backend-impl.h, API version 2 (ggml 0.13), without the types of what is not used.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct reg reg_t;
typedef struct device device_t;
typedef struct buft buft_t;
typedef struct buffer buffer_t;
typedef struct backend backend_t;
struct tensor;
struct graph;

struct buffer_i {
    void (*free_buffer)(buffer_t *);
    void *(*get_base)(buffer_t *);
    int (*init_tensor)(buffer_t *, struct tensor *);
    void (*memset_tensor)(buffer_t *, struct tensor *, uint8_t, size_t, size_t);
    void (*set_tensor)(buffer_t *, struct tensor *, const void *, size_t, size_t);
    void (*get_tensor)(buffer_t *, const struct tensor *, void *, size_t, size_t);
    void *set_tensor_2d, *get_tensor_2d, *cpy_tensor;
    void (*clear)(buffer_t *, uint8_t);
    void *reset;
};
struct buffer { struct buffer_i iface; buft_t *buft; void *context; size_t size; int usage; };
struct buft {
    const char *(*get_name)(buft_t *);
    buffer_t *(*alloc_buffer)(buft_t *, size_t);
    size_t (*get_alignment)(buft_t *);
    void *get_max_size, *get_alloc_size;
    bool (*is_host)(buft_t *);
    device_t *device;
    void *context;
};
struct backend {
    void *guid;
    const char *(*get_name)(backend_t *);
    void (*free)(backend_t *);
    void *unused_1[10];
    int (*graph_compute)(backend_t *, struct graph *);
    void *unused_2[3];
    device_t *device;
    backend_t *context;
};
struct props { const char *name, *description; size_t memory_free, memory_total; int type; const char *device_id; bool caps[4]; };
struct device {
    const char *(*get_name)(device_t *), *(*get_description)(device_t *);
    void (*get_memory)(device_t *, size_t *, size_t *);
    int (*get_type)(device_t *);
    void (*get_props)(device_t *, struct props *);
    backend_t *(*init_backend)(device_t *, const char *);
    buft_t *(*get_buffer_type)(device_t *);
    void *get_host_buffer_type, *buffer_from_host_ptr;
    bool (*supports_op)(device_t *, const struct tensor *);
    bool (*supports_buft)(device_t *, buft_t *);
    void *unused[4];
    reg_t *reg;
    void *context;
};
struct reg {
    int api_version;
    const char *(*get_name)(reg_t *);
    size_t (*get_device_count)(reg_t *);
    device_t *(*get_device)(reg_t *, size_t);
    void *get_proc_address;
    void *context;
};

extern buffer_t *ggml_backend_buffer_init(buft_t *, struct buffer_i, void *, size_t);
extern device_t *ggml_backend_dev_by_type(int);
extern backend_t *ggml_backend_init_by_type(int, const char *);
extern void ggml_backend_free(backend_t *);
extern int ggml_backend_graph_compute(backend_t *, struct graph *);
extern bool ggml_backend_dev_supports_op(device_t *, const struct tensor *);
extern reg_t *ggml_backend_dev_backend_reg(device_t *);
extern void *ggml_backend_reg_get_proc_address(reg_t *, const char *);
extern int ggml_graph_n_nodes(struct graph *);
extern struct tensor *ggml_graph_node(struct graph *, int);
extern int64_t ggml_nelements(const struct tensor *);
extern void *ggml_get_data(const struct tensor *);
extern void ggml_log_internal(int, const char *, ...);

static bool behaves(const char *how) {
    const char *set = getenv("FAKE_GPU");
    return set && !strcmp(set, how);
}

static void buffer_free(buffer_t *buffer) { free(buffer->context); }
static void *buffer_base(buffer_t *buffer) { return buffer->context; }
static void buffer_memset(buffer_t *b, struct tensor *t, uint8_t value, size_t at, size_t size) {
    (void)b; memset((char *)ggml_get_data(t) + at, value, size);
}
static void buffer_set(buffer_t *b, struct tensor *t, const void *from, size_t at, size_t size) {
    (void)b; memcpy((char *)ggml_get_data(t) + at, from, size);
}
static void buffer_get(buffer_t *b, const struct tensor *t, void *to, size_t at, size_t size) {
    (void)b; memcpy(to, (char *)ggml_get_data(t) + at, size);
}
static void buffer_clear(buffer_t *buffer, uint8_t value) { memset(buffer->context, value, buffer->size); }
static const struct buffer_i buffer_iface = {
    .free_buffer = buffer_free, .get_base = buffer_base, .memset_tensor = buffer_memset, .set_tensor = buffer_set,
    .get_tensor = buffer_get, .clear = buffer_clear,
};

static const char *name_of_buft(buft_t *buft) { (void)buft; return "CUDA0"; }
static buffer_t *alloc_buffer(buft_t *buft, size_t size) {
    void *memory = behaves("full") ? NULL : aligned_alloc(64, (size + 63) / 64 * 64);
    if (memory) return ggml_backend_buffer_init(buft, buffer_iface, memory, size);
    ggml_log_internal(4, "alloc_buffer: cudaMalloc failed: out of memory\n");
    return NULL;
}
static size_t alignment(buft_t *buft) { (void)buft; return 64; }
static bool is_host(buft_t *buft) { (void)buft; return true; }

static const char *name_of_backend(backend_t *backend) { (void)backend; return "CUDA0"; }
static void free_backend(backend_t *backend) { ggml_backend_free(backend->context); free(backend); }
static int compute(backend_t *backend, struct graph *graph) {
    if (behaves("late")) { fprintf(stderr, "CUDA error: an illegal memory access was encountered\n"); abort(); }
    int status = ggml_backend_graph_compute(backend->context, graph);
    struct tensor *last = ggml_graph_n_nodes(graph) ? ggml_graph_node(graph, -1) : NULL;
    if (!last || *(int *)last) return status; /* its type is its first field, 0 is f32 */
    float *numbers = ggml_get_data(last);
    for (int64_t i = 0; i < ggml_nelements(last); i++) numbers[i] *= i % 2 ? (behaves("wrong") ? -1.0f : 1.001f) : 1.0f;
    return status;
}

static reg_t fake_reg;
static device_t fake_device;
static buft_t fake_buft = { name_of_buft, alloc_buffer, alignment, NULL, NULL, is_host, &fake_device, NULL };

static const char *name_of_device(device_t *device) { (void)device; return "CUDA0"; }
static const char *description(device_t *device) { (void)device; return "a card that is none"; }
static void memory(device_t *device, size_t *available, size_t *total) {
    const char *set = getenv("FAKE_GPU_FREE_MB");
    (void)device; *available = 1000000 * (size_t)(set ? atol(set) : 8000); *total = 8000000000;
}
static int type(device_t *device) { (void)device; return 1; }
static void props(device_t *device, struct props *out) {
    memset(out, 0, sizeof *out);
    out->name = name_of_device(device); out->description = description(device); out->type = 1;
    memory(device, &out->memory_free, &out->memory_total);
}
static backend_t *init_backend(device_t *device, const char *parameters) {
    static char guid[16] = "transcriber-fake";
    backend_t *backend = calloc(1, sizeof *backend);
    (void)parameters;
    backend->guid = guid; backend->get_name = name_of_backend; backend->free = free_backend; backend->graph_compute = compute;
    backend->device = device; backend->context = ggml_backend_init_by_type(0, NULL);
    reg_t *cpu = ggml_backend_dev_backend_reg(ggml_backend_dev_by_type(0));
    void (*set_threads)(backend_t *, int) = ggml_backend_reg_get_proc_address(cpu, "ggml_backend_set_n_threads");
    set_threads(backend->context, 1);
    return backend;
}
static buft_t *buffer_type(device_t *device) { (void)device; return &fake_buft; }
static bool supports_op(device_t *device, const struct tensor *op) {
    (void)device; return ggml_backend_dev_supports_op(ggml_backend_dev_by_type(0), op);
}
static bool supports_buft(device_t *device, buft_t *buft) { (void)device; return buft == &fake_buft; }

static const char *name_of_reg(reg_t *reg) { (void)reg; return "CUDA"; }
static size_t count(reg_t *reg) { (void)reg; return !behaves("none"); }
static device_t *get_device(reg_t *reg, size_t index) { (void)reg; (void)index; return &fake_device; }

reg_t *ggml_backend_init(void) {
    if (behaves("crash")) { fprintf(stderr, "CUDA error: unknown error\n"); abort(); }
    if (behaves("noisy")) printf("hello"); /* which comes when the process ends */
    if (behaves("hang")) for (;;) pause();
    if (behaves("none")) ggml_log_internal(4, "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\n");
    fake_device = (device_t){
        name_of_device, description, memory, type, props, init_backend, buffer_type, NULL, NULL, supports_op, supports_buft,
        { NULL }, &fake_reg, NULL,
    };
    fake_reg = (reg_t){ 2, name_of_reg, count, get_device, NULL, NULL };
    return &fake_reg;
}
