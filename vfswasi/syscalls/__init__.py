"""System calls: decode, one kernel call, encode. No policy here. Guest memory is reached through `memory` only."""
