/* The end of a runtime's console socket, as containerd's shim is for `docker run -t`.
 *
 * terminal SOCKET PIDFILE DIALOGUE RUNC ARGUMENT...
 *
 * Listens at SOCKET, runs runc, which sends the terminal's master there, and then is who sits at
 * that terminal: prints what comes out of it, and for each line of DIALOGUE waits for a text and
 * types one, or gives the terminal another size. The terminal's settings are left as runc makes
 * them. Ends as the process does whose pid is in PIDFILE, 128 + N for the signal N; as runc does
 * when that fails; and by SIGALRM after a minute.
 *
 * A line of DIALOGUE is AFTER TYPE ROWS COLUMNS: two texts as hexadecimal digits ("-" is none), and
 * a size, 0 0 for none.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST (1 << 20)

static void need(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(125);
}

static size_t read_hex(const char *text, char *bytes)
{
	size_t count = 0;
	unsigned byte;

	while (sscanf(text + 2 * count, "%2x", &byte) == 1)
		bytes[count++] = byte;
	return count;
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int take_master(int listener)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec data = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control,
	};
	int master, connection = accept(listener, NULL, NULL);

	need(connection >= 0, "accept");
	need(recvmsg(connection, &message, 0) > 0 && CMSG_FIRSTHDR(&message) != NULL, "recvmsg");
	memcpy(&master, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof master);
	return master;
}

static void converse(int master, FILE *dialogue)
{
	static char seen[MOST], line[4096], hex_after[2048], hex_typed[2048], after[1024], typed[1024];
	size_t length = 0, searched = 0, wanted = 0, count;
	struct winsize size = {0};
	int has_step = 0;

	for (;;) {
		ssize_t got = read(master, seen + length, sizeof seen - length);

		if (got <= 0) /* EIO: the last one who had the slave is gone */
			return;
		need(write(1, seen + length, got) == got, "write");
		length += got;
		for (;;) {
			char *found;

			if (!has_step) {
				if (!fgets(line, sizeof line, dialogue))
					break;
				need(sscanf(line, "%2047s %2047s %hu %hu", hex_after, hex_typed,
					    &size.ws_row, &size.ws_col) == 4, line);
				wanted = read_hex(hex_after, after);
				has_step = 1;
			}
			found = memmem(seen + searched, length - searched, after, wanted);
			if (!found)
				break;
			searched = found - seen + wanted;
			count = read_hex(hex_typed, typed);
			if (count)
				need(write(master, typed, count) == (ssize_t)count, "type");
			if (size.ws_row)
				need(ioctl(master, TIOCSWINSZ, &size) == 0, "resize");
			has_step = 0;
		}
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), master, code, pid;
	FILE *file;

	need(argc > 4, "usage");
	alarm(60);
	need(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "subreaper");
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	need(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
	need(listen(listener, 1) == 0, "listen");
	pid = fork();
	need(pid >= 0, "fork");
	if (pid == 0) {
		execvp(argv[4], argv + 4);
		_exit(127);
	}
	/* runc waits for nobody at the socket: what it sends stays there. */
	code = wait_for(pid);
	if (code)
		return code;
	master = take_master(listener);
	file = fopen(argv[2], "r");
	need(file && fscanf(file, "%d", &pid) == 1, "pid file");
	file = fopen(argv[3], "r");
	need(file != NULL, "dialogue");
	converse(master, file);
	return wait_for(pid);
}
