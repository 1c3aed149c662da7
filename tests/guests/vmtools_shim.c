/*
 * Makes vmtoolsd of open-vm-tools believe that it runs on VMware's machine, and leads its virtual sockets to unix
 * sockets: VMX_SOCKETS is the folder that has them, named by their ports. Without it there are no virtual sockets.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

int VmCheck_IsVirtualWorld(void);

int VmCheck_IsVirtualWorld(void)
{
	return 1;
}

int socket(int family, int type, int protocol)
{
	int (*real)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
	if (family == AF_VSOCK) {
		if (!getenv("VMX_SOCKETS")) {
			errno = EAFNOSUPPORT;
			return -1;
		}
		family = AF_UNIX;
		protocol = 0;
	}
	return real(family, type, protocol);
}

int bind(int descriptor, const struct sockaddr *address, socklen_t length)
{
	int (*real)(int, const struct sockaddr *, socklen_t) =
		(int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind");
	return address->sa_family == AF_VSOCK ? 0 : real(descriptor, address, length);
}

int connect(int descriptor, const struct sockaddr *address, socklen_t length)
{
	int (*real)(int, const struct sockaddr *, socklen_t) =
		(int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
	struct sockaddr_un there = {.sun_family = AF_UNIX};
	if (address->sa_family != AF_VSOCK)
		return real(descriptor, address, length);
	snprintf(there.sun_path, sizeof(there.sun_path), "%s/%u", getenv("VMX_SOCKETS"),
		 ((const struct sockaddr_vm *)address)->svm_port);
	return real(descriptor, (struct sockaddr *)&there, sizeof(there));
}
