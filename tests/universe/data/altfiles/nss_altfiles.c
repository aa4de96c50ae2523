/* The name service "altfiles": users in /usr/lib/passwd and groups in /usr/lib/group.
 *
 * Debian does not package it, and systems in an OSTree have their accounts there. An interface of glibc's NSS: see
 * "Extending NSS" in its manual.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#define PASSWD "/usr/lib/passwd"
#define GROUP "/usr/lib/group"

static FILE *users, *groups;

static enum nss_status status_of(int error, int *errnop)
{
	*errnop = error;
	if (error == 0)
		return NSS_STATUS_SUCCESS;
	if (error == ERANGE)
		return NSS_STATUS_TRYAGAIN;
	return error == ENOENT ? NSS_STATUS_NOTFOUND : NSS_STATUS_UNAVAIL;
}

static enum nss_status restart(FILE **stream, const char *path)
{
	if (*stream)
		fclose(*stream);
	*stream = fopen(path, "re");
	return *stream ? NSS_STATUS_SUCCESS : NSS_STATUS_UNAVAIL;
}

static enum nss_status stop(FILE **stream)
{
	if (*stream)
		fclose(*stream);
	*stream = NULL;
	return NSS_STATUS_SUCCESS;
}

/* name: NULL to look for id */
static enum nss_status find_user(const char *name, uid_t id, struct passwd *found, char *buffer, size_t size, int *errnop)
{
	FILE *stream = fopen(PASSWD, "re");
	struct passwd *entry;
	int error;

	if (!stream)
		return status_of(errno, errnop);
	while ((error = fgetpwent_r(stream, found, buffer, size, &entry)) == 0)
		if (name ? !strcmp(entry->pw_name, name) : entry->pw_uid == id)
			break;
	fclose(stream);
	return status_of(error, errnop);
}

static enum nss_status find_group(const char *name, gid_t id, struct group *found, char *buffer, size_t size, int *errnop)
{
	FILE *stream = fopen(GROUP, "re");
	struct group *entry;
	int error;

	if (!stream)
		return status_of(errno, errnop);
	while ((error = fgetgrent_r(stream, found, buffer, size, &entry)) == 0)
		if (name ? !strcmp(entry->gr_name, name) : entry->gr_gid == id)
			break;
	fclose(stream);
	return status_of(error, errnop);
}

enum nss_status _nss_altfiles_getpwnam_r(const char *name, struct passwd *found, char *buffer, size_t size, int *errnop)
{
	return find_user(name, 0, found, buffer, size, errnop);
}

enum nss_status _nss_altfiles_getpwuid_r(uid_t id, struct passwd *found, char *buffer, size_t size, int *errnop)
{
	return find_user(NULL, id, found, buffer, size, errnop);
}

enum nss_status _nss_altfiles_getgrnam_r(const char *name, struct group *found, char *buffer, size_t size, int *errnop)
{
	return find_group(name, 0, found, buffer, size, errnop);
}

enum nss_status _nss_altfiles_getgrgid_r(gid_t id, struct group *found, char *buffer, size_t size, int *errnop)
{
	return find_group(NULL, id, found, buffer, size, errnop);
}

enum nss_status _nss_altfiles_setpwent(int stayopen)
{
	(void)stayopen;
	return restart(&users, PASSWD);
}

enum nss_status _nss_altfiles_endpwent(void)
{
	return stop(&users);
}

enum nss_status _nss_altfiles_getpwent_r(struct passwd *found, char *buffer, size_t size, int *errnop)
{
	struct passwd *entry;
	fpos_t before;
	int error;

	if (!users && restart(&users, PASSWD) != NSS_STATUS_SUCCESS)
		return status_of(errno, errnop);
	/* the caller comes back with a larger buffer for the same entry */
	fgetpos(users, &before);
	error = fgetpwent_r(users, found, buffer, size, &entry);
	if (error == ERANGE)
		fsetpos(users, &before);
	return status_of(error, errnop);
}

enum nss_status _nss_altfiles_setgrent(int stayopen)
{
	(void)stayopen;
	return restart(&groups, GROUP);
}

enum nss_status _nss_altfiles_endgrent(void)
{
	return stop(&groups);
}

enum nss_status _nss_altfiles_getgrent_r(struct group *found, char *buffer, size_t size, int *errnop)
{
	struct group *entry;
	fpos_t before;
	int error;

	if (!groups && restart(&groups, GROUP) != NSS_STATUS_SUCCESS)
		return status_of(errno, errnop);
	fgetpos(groups, &before);
	error = fgetgrent_r(groups, found, buffer, size, &entry);
	if (error == ERANGE)
		fsetpos(groups, &before);
	return status_of(error, errnop);
}
