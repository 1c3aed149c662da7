/* What a guest's kernel can do, tried and not looked up: one line "ok NAME" or "no NAME: reason".
 *
 * Runs as a privileged process of a machine, static, without arguments. Items and their names are
 * the rows of docs/kernels.md; a test compares. Anything that hangs ends by the alarm.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void report(const char *name, int good)
{
	if (good)
		printf("ok %s\n", name);
	else
		printf("no %s: %s\n", name, errno ? strerror(errno) : "not there");
	fflush(stdout);
	errno = 0;
}

static int contains(const char *path, const char *word)
{
	static char text[65536];
	size_t length;
	char *at;
	FILE *file = fopen(path, "r");

	if (!file)
		return 0;
	length = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	text[length] = 0;
	errno = 0;
	for (at = text; (at = strstr(at, word)); at++) {
		char after = at[strlen(word)];
		char before = at == text ? ' ' : at[-1];

		if (strchr(" \t\n", before) && strchr(" \t\n", after))
			return 1;
	}
	return 0;
}

static void listed(const char *group, const char *path, const char *const *words)
{
	char name[128];

	for (; *words; words++) {
		snprintf(name, sizeof name, "%s %s", group, *words);
		report(name, contains(path, *words));
	}
}

/* Drivers that are registered, whether or not this machine has such a device. */
static void drivers(const char *bus, const char *const *names)
{
	char name[128], path[256];

	for (; *names; names++) {
		snprintf(path, sizeof path, "/sys/bus/%s/drivers/%s", bus, *names);
		snprintf(name, sizeof name, "driver %s", *names);
		report(name, access(path, F_OK) == 0);
	}
}

static int in_child(int (*work)(void))
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		return 0;
	if (child == 0) {
		int good = work();

		_exit(good ? 0 : errno ? errno : 255);
	}
	if (waitpid(child, &status, 0) < 0)
		return 0;
	errno = WIFEXITED(status) && WEXITSTATUS(status) < 255 ? WEXITSTATUS(status) : 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int try_futex(void)
{
	uint32_t word = 1;

	return syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0;
}

static int try_epoll(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int set = epoll_create1(0), counter = eventfd(1, 0);

	return epoll_ctl(set, EPOLL_CTL_ADD, counter, &event) == 0 &&
	       epoll_wait(set, &event, 1, 1000) == 1;
}

static int try_signalfd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return signalfd(-1, &set, 0) >= 0;
}

static int try_timerfd(void)
{
	struct itimerspec when = {.it_value = {.tv_nsec = 1000}};
	uint64_t count;
	int timer = timerfd_create(CLOCK_MONOTONIC, 0);

	return timerfd_settime(timer, 0, &when, NULL) == 0 && read(timer, &count, 8) == 8;
}

static int try_posix_timer(void)
{
	timer_t timer;

	return timer_create(CLOCK_MONOTONIC, NULL, &timer) == 0;
}

static int try_inotify(void)
{
	char event[512];
	int watch = inotify_init1(0);

	if (watch < 0 || inotify_add_watch(watch, "/tmp", IN_CREATE) < 0)
		return 0;
	close(open("/tmp/seen", O_CREAT | O_WRONLY, 0600));
	return read(watch, event, sizeof event) > 0;
}

static int try_fanotify(void)
{
	struct fanotify_event_metadata event[4];
	int watch = fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);

	if (watch < 0 || fanotify_mark(watch, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/tmp/seen") < 0)
		return 0;
	close(open("/tmp/seen", O_RDONLY));
	return read(watch, event, sizeof event) > 0;
}

static int try_io_uring(void)
{
	struct io_uring_params parameters = {0};
	int ring = syscall(SYS_io_uring_setup, 4, &parameters);
	unsigned char *rings, *entries;
	struct io_uring_sqe *entry;

	if (ring < 0)
		return 0;
	rings = mmap(NULL, parameters.sq_off.array + 4 * parameters.sq_entries, PROT_READ | PROT_WRITE,
		     MAP_SHARED, ring, IORING_OFF_SQ_RING);
	entries = mmap(NULL, parameters.sq_entries * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED,
		       ring, IORING_OFF_SQES);
	if (rings == MAP_FAILED || entries == MAP_FAILED)
		return 0;
	entry = (struct io_uring_sqe *)entries;
	entry->opcode = IORING_OP_NOP;
	*(uint32_t *)(rings + parameters.sq_off.array) = 0;
	*(uint32_t *)(rings + parameters.sq_off.tail) = 1;
	return syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1;
}

static int try_aio(void)
{
	aio_context_t context = 0;
	char data[16];
	struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_nbytes = sizeof data};
	struct iocb *requests[] = {&request};
	struct io_event event;

	request.aio_fildes = open("/proc/self/exe", O_RDONLY);
	request.aio_buf = (uintptr_t)data;
	return syscall(SYS_io_setup, 1, &context) == 0 &&
	       syscall(SYS_io_submit, context, 1, requests) == 1 &&
	       syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1;
}

static int try_sysv_shm(void)
{
	int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	void *at = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);

	return at != (void *)-1 && shmctl(segment, IPC_RMID, NULL) == 0;
}

static int try_sysv_sem(void)
{
	int set = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);

	return set >= 0 && semctl(set, 0, IPC_RMID) == 0;
}

static int try_sysv_msg(void)
{
	int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);

	return queue >= 0 && msgctl(queue, IPC_RMID, NULL) == 0;
}

static int try_posix_mq(void)
{
	return mq_open("/probe", O_CREAT | O_RDWR, 0600, NULL) >= 0 && mq_unlink("/probe") == 0;
}

static int try_posix_shm(void)
{
	int file = open("/dev/shm/probe", O_CREAT | O_RDWR, 0600);

	return file >= 0 && ftruncate(file, 4096) == 0 &&
	       mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, file, 0) != MAP_FAILED;
}

static int try_keys(void)
{
	return syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING) > 0;
}

static int try_seccomp(void)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static int try_bpf_device(void)
{
	struct bpf_insn program[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attributes = {0};

	attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attributes.insns = (uintptr_t)program;
	attributes.insn_cnt = 2;
	attributes.license = (uintptr_t)"GPL";
	return syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes) >= 0;
}

static int try_memfd(void)
{
	return memfd_create("probe", MFD_ALLOW_SEALING) >= 0;
}

static int try_userfaultfd(void)
{
	return syscall(SYS_userfaultfd, 0) >= 0;
}

static int try_membarrier(void)
{
	return syscall(SYS_membarrier, 0, 0, 0) > 0;
}

static int try_process_vm(void)
{
	char from[] = "x", to[] = "y";
	struct iovec local = {to, 1}, remote = {from, 1};

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && to[0] == 'x';
}

static int try_pkeys(void)
{
	/* A processor without protection keys has none to give: ENOSPC. */
	return syscall(SYS_pkey_alloc, 0, 0) >= 0 || errno == ENOSPC;
}

static int try_name_to_handle(void)
{
	struct file_handle *handle = malloc(sizeof *handle + MAX_HANDLE_SZ);
	int mount;

	handle->handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(AT_FDCWD, "/", handle, &mount, 0) == 0;
}

static int try_pidfd(void)
{
	return syscall(SYS_pidfd_open, getpid(), 0) >= 0;
}

static int try_clone_namespaces(void)
{
	return unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID |
		       CLONE_NEWCGROUP | CLONE_NEWTIME) == 0;
}

static int try_user_namespace(void)
{
	return unshare(CLONE_NEWUSER) == 0;
}

static int try_vsock(void)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 9999};
	int server = socket(AF_VSOCK, SOCK_STREAM, 0), client = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (bind(server, (struct sockaddr *)&address, sizeof address) < 0 || listen(server, 1) < 0)
		return 0;
	address.svm_cid = VMADDR_CID_LOCAL;
	return connect(client, (struct sockaddr *)&address, sizeof address) == 0;
}

static int try_packet(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0) >= 0;
}

static int try_ipv6(void)
{
	return socket(AF_INET6, SOCK_STREAM, 0) >= 0;
}

static int try_nf_tables(void)
{
	/* Netlink's subsystem of nf_tables answers a dump of its generation or does not exist. */
	struct {
		uint32_t length;
		uint16_t type, flags;
		uint32_t sequence, port;
		uint8_t family, version;
		uint16_t resource;
	} request = {20, (10 << 8) | 16, 1, 1, 0, 0, 0, 0}; /* NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN */
	struct {
		uint32_t length;
		uint16_t type, flags;
		uint32_t sequence, port;
		int32_t error;
		char rest[256];
	} answer = {0};
	int netlink = socket(AF_NETLINK, SOCK_RAW, 12 /* NETLINK_NETFILTER */);

	if (netlink < 0 || send(netlink, &request, sizeof request, 0) < 0 ||
	    recv(netlink, &answer, sizeof answer, 0) < 0)
		return 0;
	if (answer.type == 2 && answer.error) { /* NLMSG_ERROR */
		errno = -answer.error;
		return 0;
	}
	return 1;
}

static int try_iopl(void)
{
	return iopl(3) == 0;
}

static int try_overlay(void)
{
	mkdir("/tmp/o", 0700);
	if (unshare(CLONE_NEWNS) < 0 || mount("tmpfs", "/tmp/o", "tmpfs", 0, NULL) < 0)
		return 0;
	mkdir("/tmp/o/lower", 0700);
	mkdir("/tmp/o/upper", 0700);
	mkdir("/tmp/o/work", 0700);
	mkdir("/tmp/o/all", 0700);
	return mount("overlay", "/tmp/o/all", "overlay", 0,
		     "lowerdir=/tmp/o/lower,upperdir=/tmp/o/upper,workdir=/tmp/o/work") == 0;
}

static int try_tmpfs_xattr(void)
{
	mkdir("/tmp/t", 0700);
	return unshare(CLONE_NEWNS) == 0 && mount("tmpfs", "/tmp/t", "tmpfs", 0, NULL) == 0 &&
	       syscall(SYS_setxattr, "/tmp/t", "trusted.probe", "x", 1, 0) == 0;
}

static int try_entropy(void)
{
	char bytes[16];

	return syscall(SYS_getrandom, bytes, sizeof bytes, 1 /* GRND_NONBLOCK */) == sizeof bytes;
}

static int try_huge(void)
{
	return access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0;
}

static int try_swap(void)
{
	return access("/proc/swaps", F_OK) == 0;
}

static const struct {
	const char *name;
	int (*work)(void);
} CALLS[] = {
	{"futex", try_futex},
	{"epoll, eventfd", try_epoll},
	{"signalfd", try_signalfd},
	{"timerfd", try_timerfd},
	{"POSIX timers", try_posix_timer},
	{"inotify", try_inotify},
	{"fanotify", try_fanotify},
	{"io_uring", try_io_uring},
	{"AIO", try_aio},
	{"System V shared memory", try_sysv_shm},
	{"System V semaphores", try_sysv_sem},
	{"System V messages", try_sysv_msg},
	{"POSIX message queues", try_posix_mq},
	{"POSIX shared memory", try_posix_shm},
	{"keys", try_keys},
	{"seccomp filters", try_seccomp},
	{"BPF device programs", try_bpf_device},
	{"memfd", try_memfd},
	{"userfaultfd", try_userfaultfd},
	{"membarrier", try_membarrier},
	{"process_vm_readv", try_process_vm},
	{"protection keys", try_pkeys},
	{"file handles", try_name_to_handle},
	{"pidfd", try_pidfd},
	{"entropy at once", try_entropy},
	{"transparent huge pages", try_huge},
	{"swap", try_swap},
	{"namespaces", try_clone_namespaces},
	{"user namespaces", try_user_namespace},
	{"vsock over loopback", try_vsock},
	{"packet sockets", try_packet},
	{"IPv6", try_ipv6},
	{"nf_tables", try_nf_tables},
	{"iopl", try_iopl},
	{"overlay mounted", try_overlay},
	{"tmpfs with xattrs", try_tmpfs_xattr},
};

int main(void)
{
	static const char *const systems[] = {"ext4", "erofs", "overlay", "tmpfs", "hugetlbfs", NULL};
	static const char *const controllers[] = {"cpu", "cpuset", "io", "memory", "pids", NULL};
	static const char *const pci[] = {"vmw_pvscsi", "ahci", "nvme", "mptspi", "mptsas", "vmxnet3",
					  "e1000e", "vmw_vmci", "serial", NULL};
	static const char *const virtio[] = {"virtio_blk", "virtio_scsi", "virtio_net", "virtio_console",
					     "vmw_vsock_virtio_transport", "virtio_rng", NULL};
	static const char *const platform[] = {"fw_cfg", NULL};
	static const char *const acpi[] = {"button", NULL}; /* ptp_vmw registers on VMware alone */
	size_t item;
	char path[64];
	int port;

	mkdir("/tmp", 01777);
	alarm(60);
	for (item = 0; item < sizeof CALLS / sizeof *CALLS; item++)
		report(CALLS[item].name, in_child(CALLS[item].work));
	listed("file system", "/proc/filesystems", systems);
	listed("cgroup", "/sys/fs/cgroup/cgroup.controllers", controllers);
	drivers("pci", pci);
	drivers("virtio", virtio);
	drivers("platform", platform);
	drivers("acpi", acpi);
	for (port = 0; port < 4; port++) {
		snprintf(path, sizeof path, "/sys/class/tty/ttyS%d", port);
		report(path + strlen("/sys/class/tty/"), access(path, F_OK) == 0);
	}
	report("evdev", access("/sys/class/input", F_OK) == 0);
	report("hardware random numbers", access("/sys/class/misc/hw_random", F_OK) == 0);
	report("balloon", access("/sys/module/vmw_balloon", F_OK) == 0);
	return 0;
}
