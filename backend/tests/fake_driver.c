/* A library under the name of NVIDIA's driver, with one device that is not there: what a driver that
 * is too old, or a card that is, answers. DRIVER, DEVICES, MAJOR, MINOR and INIT say what. */
#include <string.h>

int cuDriverGetVersion(int *version) {
    *version = DRIVER;
    return 0;
}

int cuInit(unsigned flags) {
    (void)flags;
    return INIT;
}

int cuDeviceGetCount(int *count) {
    *count = DEVICES;
    return 0;
}

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    strncpy(name, "Fake card 3000", (size_t)length);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
    case 75: *value = MAJOR; return 0; /* COMPUTE_CAPABILITY_MAJOR */
    case 76: *value = MINOR; return 0;
    default: *value = 64; return 0;
    }
}

int cuGetErrorString(int error, const char **text) {
    *text = error == 999 ? "unknown error" : "an error";
    return 0;
}
