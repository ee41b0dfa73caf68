/* The sub-commands. Each takes the arguments behind its name and returns the exit status of the program. */
#ifndef WSR_COMMAND_H
#define WSR_COMMAND_H

enum wsr_command_status {
    WSR_COMMAND_OK = 0,
    WSR_COMMAND_FAILED = 1,
    WSR_COMMAND_USAGE = 2
};

int wsr_load_main(int argc, char **argv);
int wsr_echo_main(int argc, char **argv);
int wsr_doctor_main(int argc, char **argv);

#endif
