#!/bin/sh
# A compiler launcher for a build whose speed does not matter.
exec "$@" -O0
