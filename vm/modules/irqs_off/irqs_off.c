// SPDX-License-Identifier: GPL-2.0-only
/* Turns interrupts off on the CPU that writes a number of milliseconds into the parameter, for so long. */
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#define MOST 2000

static noinline void irqs_off_for(unsigned int milliseconds)
{
	unsigned long flags;

	local_irq_save(flags);
	mdelay(milliseconds);
	local_irq_restore(flags);
}

static int set(const char *text, const struct kernel_param *parameter)
{
	unsigned int milliseconds;
	int error = kstrtouint(text, 0, &milliseconds);

	if (error)
		return error;
	if (milliseconds > MOST)
		return -EINVAL;
	irqs_off_for(milliseconds);
	return 0;
}

static const struct kernel_param_ops operations = { .set = set };

module_param_cb(milliseconds, &operations, NULL, 0200);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Interrupts off on one CPU, for a test");
