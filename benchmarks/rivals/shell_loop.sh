#!/bin/sh
# A loop in a shell: one training after another, two at a time, each a command of its own.
#     shell_loop.sh TRIALS TRACKING_URI    (with avsc-core on the PATH)
export OMP_NUM_THREADS=1
seq "$1" | xargs -P 2 -I{} avsc-core train --tracking-uri "$2" \
    --set training.epochs=3 --set loss_weights.event=0.{} --set loss_weights.scene=0.9{}
