#ifndef BOARD_H
#define BOARD_H
#include <avr/io.h>
#define F_CPU 16000000UL
#define BAUD 115200UL
#define UBRR_VALUE ((F_CPU + 4UL * BAUD) / (8UL * BAUD) - 1UL)
#define LED PB5
#define HEATER PB1
#define SENSOR_CHANNEL 3
#define BUTTON PD2
#define TICKS_PER_SECOND 100
#endif
