#ifndef CONTROL_H
#define CONTROL_H
#include <stdint.h>
/* A PID controller in 16.16 fixed point. */
typedef int32_t fixed_t;
#define FIXED(x) ((fixed_t)((x) * 65536.0))
typedef struct { fixed_t kp, ki, kd, integral, limit, last; } pid_controller_t;
fixed_t fixed_mul(fixed_t a, fixed_t b);
fixed_t pid_step(pid_controller_t *pid, fixed_t wanted, fixed_t measured);
#endif
