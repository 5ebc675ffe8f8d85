"""A small double of the parts of ComfyUI that the node pack calls, with the same contracts and none of its code.

What a real ComfyUI does is checked by tests/contracts/test_real_comfyui_pack.py.
"""
