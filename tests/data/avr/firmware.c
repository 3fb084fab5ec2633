/* A temperature controller for an ATmega328P: reads a sensor, drives a heater by PWM, talks over the serial line. */
#include <avr/io.h>
#include <avr/interrupt.h>
#include <avr/pgmspace.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board.h"
#include "control.h"
#include "protocol.h"
#include "ring.h"

/* ---- ring buffers ------------------------------------------------------------------------------------------ */

static ring_t received, to_send;

bool ring_put(ring_t *ring, uint8_t byte)
{
    if (ring_full(ring))
        return false;
    ring->data[ring->head] = byte;
    ring->head = (ring->head + 1) & (RING_SIZE - 1);
    return true;
}

bool ring_get(ring_t *ring, uint8_t *byte)
{
    if (ring_empty(ring))
        return false;
    *byte = ring->data[ring->tail];
    ring->tail = (ring->tail + 1) & (RING_SIZE - 1);
    return true;
}

/* ---- fixed point and control ------------------------------------------------------------------------------- */

fixed_t fixed_mul(fixed_t a, fixed_t b)
{
    return (fixed_t)(((int64_t)a * b) >> 16);
}

static fixed_t clamp(fixed_t value, fixed_t low, fixed_t high)
{
    if (value < low)
        return low;
    return value > high ? high : value;
}

fixed_t pid_step(pid_controller_t *pid, fixed_t wanted, fixed_t measured)
{
    fixed_t error = wanted - measured;
    fixed_t output = fixed_mul(pid->kp, error);

    pid->integral = clamp(pid->integral + fixed_mul(pid->ki, error), -pid->limit, pid->limit);
    output += pid->integral;
    output += fixed_mul(pid->kd, pid->last - measured);
    pid->last = measured;
    return clamp(output, 0, pid->limit);
}

/* The sensor's curve: ADC readings at every 10 degrees from 0 to 150, falling. */
static const uint16_t curve[16] PROGMEM = {
    997, 970, 933, 886, 830, 766, 697, 626, 555, 487, 424, 367, 316, 272, 234, 202,
};

static fixed_t temperature_of(uint16_t reading)
{
    uint8_t low = 0, high = 15;

    if (reading >= pgm_read_word(&curve[0]))
        return 0;
    if (reading <= pgm_read_word(&curve[15]))
        return FIXED(150);
    while (high - low > 1) {
        uint8_t middle = (uint8_t)((low + high) / 2);
        if (pgm_read_word(&curve[middle]) > reading)
            low = middle;
        else
            high = middle;
    }
    {
        int16_t above = (int16_t)pgm_read_word(&curve[low]);
        int16_t below = (int16_t)pgm_read_word(&curve[high]);
        int32_t part = (int32_t)(above - (int16_t)reading) * 65536L / (above - below);
        return (fixed_t)low * FIXED(10) + part * 10;
    }
}

/* ---- a median over the last readings ----------------------------------------------------------------------- */

#define WINDOW 9
static uint16_t window[WINDOW];
static uint8_t window_next;

static uint16_t median(void)
{
    uint16_t sorted[WINDOW];
    uint8_t i, j;

    for (i = 0; i < WINDOW; i++) {
        uint16_t value = window[i];
        for (j = i; j > 0 && sorted[j - 1] > value; j--)
            sorted[j] = sorted[j - 1];
        sorted[j] = value;
    }
    return sorted[WINDOW / 2];
}

static void window_add(uint16_t reading)
{
    window[window_next] = reading;
    window_next = (uint8_t)((window_next + 1) % WINDOW);
}

/* ---- the protocol ------------------------------------------------------------------------------------------ */

uint16_t crc_update(uint16_t crc, uint8_t byte)
{
    uint8_t bit;

    crc ^= (uint16_t)byte << 8;
    for (bit = 0; bit < 8; bit++)
        crc = crc & 0x8000 ? (uint16_t)(crc << 1) ^ 0x1021 : (uint16_t)(crc << 1);
    return crc;
}

static void send_byte(uint8_t byte)
{
    while (!ring_put(&to_send, byte))
        UCSR0B |= _BV(UDRIE0);
    UCSR0B |= _BV(UDRIE0);
}

void protocol_send(uint8_t kind, const uint8_t *payload, uint8_t length)
{
    uint16_t crc = crc_update(crc_update(0xFFFF, length), kind);
    uint8_t i;

    send_byte(0x7E);
    send_byte(length);
    send_byte(kind);
    for (i = 0; i < length; i++) {
        crc = crc_update(crc, payload[i]);
        send_byte(payload[i]);
    }
    send_byte((uint8_t)crc);
    send_byte((uint8_t)(crc >> 8));
}

/* Returns 1 when a whole valid frame is there, -1 for a bad one, else 0. */
int protocol_feed(parser_t *parser, uint8_t byte)
{
    switch (parser->state) {
    case WAIT_START:
        if (byte == 0x7E) {
            parser->crc = 0xFFFF;
            parser->have = 0;
            parser->state = WAIT_LENGTH;
        }
        return 0;
    case WAIT_LENGTH:
        if (byte > PAYLOAD_MAX)
            break;
        parser->length = byte;
        parser->crc = crc_update(parser->crc, byte);
        parser->state = WAIT_KIND;
        return 0;
    case WAIT_KIND:
        parser->kind = byte;
        parser->crc = crc_update(parser->crc, byte);
        parser->state = parser->length ? WAIT_PAYLOAD : WAIT_CRC_LOW;
        return 0;
    case WAIT_PAYLOAD:
        parser->payload[parser->have++] = byte;
        parser->crc = crc_update(parser->crc, byte);
        if (parser->have == parser->length)
            parser->state = WAIT_CRC_LOW;
        return 0;
    case WAIT_CRC_LOW:
        parser->wanted_crc = byte;
        parser->state = WAIT_CRC_HIGH;
        return 0;
    case WAIT_CRC_HIGH:
        parser->wanted_crc |= (uint16_t)byte << 8;
        parser->state = WAIT_START;
        if (parser->wanted_crc == parser->crc)
            return 1;
        break;
    }
    parser->state = WAIT_START;
    parser->errors++;
    return -1;
}

/* ---- hardware ---------------------------------------------------------------------------------------------- */

static volatile uint16_t ticks;
static volatile bool tick_pending;
static volatile uint16_t last_reading;

ISR(TIMER1_COMPA_vect)
{
    ticks++;
    tick_pending = true;
    ADCSRA |= _BV(ADSC);
}

ISR(ADC_vect)
{
    last_reading = ADC;
}

ISR(USART_RX_vect)
{
    (void)ring_put(&received, UDR0);
}

ISR(USART_UDRE_vect)
{
    uint8_t byte;

    if (ring_get(&to_send, &byte))
        UDR0 = byte;
    else
        UCSR0B &= (uint8_t)~_BV(UDRIE0);
}

static void hardware_start(void)
{
    DDRB |= _BV(LED) | _BV(HEATER);
    PORTD |= _BV(BUTTON);

    UBRR0 = UBRR_VALUE;
    UCSR0A = _BV(U2X0);
    UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);

    ADMUX = _BV(REFS0) | SENSOR_CHANNEL;
    ADCSRA = _BV(ADEN) | _BV(ADIE) | _BV(ADPS2) | _BV(ADPS1) | _BV(ADPS0);

    TCCR1B = _BV(WGM12) | _BV(CS12);
    OCR1A = F_CPU / 256 / TICKS_PER_SECOND - 1;
    TIMSK1 = _BV(OCIE1A);

    TCCR2A = _BV(COM2A1) | _BV(WGM21) | _BV(WGM20);
    TCCR2B = _BV(CS21);
    sei();
}

/* ---- the program ------------------------------------------------------------------------------------------- */

static pid_controller_t pid = { FIXED(4.5), FIXED(0.02), FIXED(11.0), 0, FIXED(255), 0 };
static fixed_t target, temperature;
static bool heating, logging;

static void put_fixed(uint8_t *at, fixed_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

static fixed_t get_fixed(const uint8_t *at)
{
    return (fixed_t)at[0] | (fixed_t)at[1] << 8 | (fixed_t)at[2] << 16 | (fixed_t)at[3] << 24;
}

static void handle(const parser_t *frame)
{
    uint8_t answer[12];

    switch (frame->kind) {
    case KIND_PING:
        protocol_send(KIND_PING, frame->payload, frame->length);
        return;
    case KIND_SET:
        if (frame->length == 4) {
            target = clamp(get_fixed(frame->payload), 0, FIXED(140));
            heating = target != 0;
            return;
        }
        break;
    case KIND_GET:
        put_fixed(answer, temperature);
        put_fixed(answer + 4, target);
        put_fixed(answer + 8, pid.integral);
        protocol_send(KIND_GET, answer, sizeof answer);
        return;
    case KIND_GAINS:
        if (frame->length == 12) {
            pid.kp = get_fixed(frame->payload);
            pid.ki = get_fixed(frame->payload + 4);
            pid.kd = get_fixed(frame->payload + 8);
            pid.integral = 0;
            return;
        }
        break;
    case KIND_LOG:
        logging = frame->length == 1 && frame->payload[0];
        return;
    default:
        break;
    }
    answer[0] = frame->kind;
    protocol_send(KIND_ERROR, answer, 1);
}

static void control_tick(void)
{
    fixed_t power = 0;

    window_add(last_reading);
    temperature = temperature_of(median());
    if (heating && temperature < FIXED(145))
        power = pid_step(&pid, target, temperature);
    OCR2A = (uint8_t)(power >> 16);
    if (heating)
        PINB = _BV(LED);
    else
        PORTB &= (uint8_t)~_BV(LED);
    if (logging && ticks % TICKS_PER_SECOND == 0) {
        uint8_t line[8];
        put_fixed(line, temperature);
        put_fixed(line + 4, power);
        protocol_send(KIND_LOG, line, sizeof line);
    }
}

int main(void)
{
    parser_t parser = { .state = WAIT_START };

    hardware_start();
    for (;;) {
        uint8_t byte;
        while (ring_get(&received, &byte))
            if (protocol_feed(&parser, byte) > 0)
                handle(&parser);
        if (!(PIND & _BV(BUTTON)))
            heating = false;
        if (tick_pending) {
            tick_pending = false;
            control_tick();
        }
    }
}
