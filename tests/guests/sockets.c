/*
 * Which sockets a process may make: one line for each way, with the error's number or 0.
 * Static and not position-independent, for the 32-bit calls take 32-bit addresses.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AF_VSOCK_NUMBER 40
#define X32 0x40000000
#define I386_SOCKETCALL 102
#define I386_SOCKET 359

static int arguments[3]; /* of socketcall */

static int old(int number, long first, long second, long third)
{
	int result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
	return result < 0 ? -result : 0;
}

static int by_socketcall(int family)
{
	arguments[0] = family;
	arguments[1] = SOCK_STREAM;
	return old(I386_SOCKETCALL, 1, (long)arguments, 0);
}

static int usual(long number, long first, long second, long third)
{
	return syscall(number, first, second, third) < 0 ? errno : 0;
}

int main(void)
{
	char parameters[120] = {0};
	printf("vsock %d\n", usual(SYS_socket, AF_VSOCK_NUMBER, SOCK_STREAM, 0));
	printf("unix %d\n", usual(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
	printf("inet6 %d\n", usual(SYS_socket, AF_INET6, SOCK_DGRAM, 0));
	printf("x32 vsock %d\n", usual(SYS_socket | X32, AF_VSOCK_NUMBER, SOCK_STREAM, 0));
	printf("io_uring %d\n", usual(425, 1, (long)parameters, 0));
	printf("i386 vsock %d\n", old(I386_SOCKET, AF_VSOCK_NUMBER, SOCK_STREAM, 0));
	printf("i386 unix %d\n", old(I386_SOCKET, AF_UNIX, SOCK_STREAM, 0));
	printf("i386 socketcall vsock %d\n", by_socketcall(AF_VSOCK_NUMBER));
	printf("i386 io_uring %d\n", old(425, 1, 0, 0));
	return 0;
}
