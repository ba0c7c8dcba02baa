/* Go programs need bcryptprimitives.dll for random numbers. Wine has it from version 9 on; this
 * one is for older versions. See setup.sh. */
#include <windows.h>

BOOLEAN WINAPI SystemFunction036(PVOID data, ULONG size); /* RtlGenRandom, in advapi32 */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	for (; size > MAXLONG; data += MAXLONG, size -= MAXLONG)
		if (!SystemFunction036(data, MAXLONG))
			return FALSE;
	return SystemFunction036(data, (ULONG)size);
}
