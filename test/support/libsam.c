/* A program that libsam watches: `libsam POLICY INTERVAL STEP…`. It does each step when a file bids it,
 * and says what it is ready for in the file of the environment's SAM_TEST_OUTPUT, as the other programs of the tests do. */
#include <corosync/sam.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *output;

static void must(const char *call, int status)
{
	if (status == CS_OK) return;
	fprintf(stderr, "%s() failed with cs_error_t %d\n", call, status);
	exit(90);
}

static void ready(unsigned instance, int at, const char *name)
{
	char path[4096];
	FILE *file = fopen(output, "a");
	fprintf(file, "{\"event\":\"ready %u.%d %s\",\"pid\":%d,\"ms\":0}\n", instance, at, name, (int)getpid());
	fclose(file);
	snprintf(path, sizeof(path), "%s.%u.%d %s", output, instance, at, name);
	while (access(path, F_OK) != 0) usleep(2000);
}

int main(int count, char **words)
{
	unsigned instance;
	int policy = strcmp(words[1], "quit") == 0 ? SAM_RECOVERY_POLICY_QUIT : SAM_RECOVERY_POLICY_RESTART;

	output = getenv("SAM_TEST_OUTPUT");
	must("sam_initialize", sam_initialize(atoi(words[2]), policy | SAM_RECOVERY_POLICY_CMAP));
	must("sam_register", sam_register(&instance));
	int only = count == 4;

	for (int at = 3; at < count; at++) {
		const char *step = words[at];
		if (!only) ready(instance, at - 2, step); /* one step is done unbidden */
		if (strcmp(step, "start") == 0) must("sam_start", sam_start());
		else if (strcmp(step, "stop") == 0) must("sam_stop", sam_stop());
		else if (strcmp(step, "heartbeat") == 0) must("sam_hc_send", sam_hc_send());
		else if (strcmp(step, "fail") == 0) must("sam_mark_failed", sam_mark_failed());
		else if (strcmp(step, "exit") == 0) return 3;
	}
	for (;;) pause();
}
