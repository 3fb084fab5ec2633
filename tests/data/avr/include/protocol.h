#ifndef PROTOCOL_H
#define PROTOCOL_H
#include <stdint.h>
#include "ring.h"
/* Frames: 0x7E, length, kind, payload, CRC-16 (CCITT), low byte first. */
enum kind { KIND_PING = 1, KIND_SET = 2, KIND_GET = 3, KIND_GAINS = 4, KIND_LOG = 5, KIND_ERROR = 0x7F };
enum state { WAIT_START, WAIT_LENGTH, WAIT_KIND, WAIT_PAYLOAD, WAIT_CRC_LOW, WAIT_CRC_HIGH };
#define PAYLOAD_MAX 32
typedef struct {
    enum state state;
    uint8_t length, kind, have;
    uint8_t payload[PAYLOAD_MAX];
    uint16_t crc, wanted_crc, errors;
} parser_t;
uint16_t crc_update(uint16_t crc, uint8_t byte);
void protocol_send(uint8_t kind, const uint8_t *payload, uint8_t length);
int protocol_feed(parser_t *parser, uint8_t byte);
#endif
