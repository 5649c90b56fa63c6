#!/bin/sh
# Says what it was built for, and what it really is: the fifth byte of an ELF file
# is 1 for a 32-bit program and 2 for a 64-bit one.
cat /usr/share/sample/greeting.txt
case "$(od -An -tu1 -j4 -N1 /bin/busybox | tr -d ' ')" in
    1) bits=32 ;;
    2) bits=64 ;;
    *) bits=unknown ;;
esac
echo "Its programs are ${bits}-bit; the kernel below says $(uname -m)."
